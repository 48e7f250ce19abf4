"""The broker that this process runs, and the hub beside it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from deploy import home
from deploy.configure import CommandFailed, Where
from deploy.nats import broker as brokers
from deploy.nats import shared
from deploy.nats.broker import Broker
from deploy.nats.errors import BrokerError
from deploy.nodes.hub import Hub
from deploy.screen import Screen
from schemas.settings import Settings
from schemas.watched import watched

ALONE = 1
"""Cores that a broker computes on which serves this machine alone. On several, its threads wake
each other up for every message, which took a quarter of its CPU; one carries 20,000 tokens a second
and more (docs/benchmarks.md)."""


@contextlib.asynccontextmanager
async def running(settings: Settings, data: Path) -> AsyncIterator[Broker]:
    """A broker in the data directory, until the block is left. Raises CommandFailed."""
    nats = settings.nats
    opened = brokers.start(
        home.broker_store(data),
        http_port=None if nats.monitor_port < 0 else nats.monitor_port,
        sync=nats.sync,
        share=settings.share,
        cores=0 if settings.share.host else ALONE,
    )
    with contextlib.ExitStack() as stack:
        try:  # in threads, because the broker may take seconds to begin and to end
            yield await asyncio.to_thread(stack.enter_context, opened)
        except BrokerError as fault:
            raise CommandFailed(str(fault)) from None
        finally:
            await asyncio.to_thread(stack.close)


def tell(broker: Broker, settings: Settings, screen: Screen) -> None:
    """Say where it is, and what is wrong with its certificate. Raises BrokerError."""
    screen.broker(broker.url, broker.store)
    for fault in shared.ending(broker.store, settings.share):
        screen.warn(fault)


def hub(broker: Broker, settings: Settings, data: Path, screen: Screen) -> asyncio.Task[None]:
    """Let nodes in, until the task is cancelled."""
    forget = settings.share.forget_nodes
    made = Hub(broker, Where(data).local, screen.note, forget)
    return asyncio.create_task(watched("hub", made.run))
