"""How commands run a process of the fabric: it may join by a token, then works until stopped."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import structlog
import typer

from deploy import configure
from deploy.configure import CommandFailed, Where
from deploy.options import QUIET, one_line
from schemas import log
from schemas.settings import Settings, SettingsError, passed_over

if TYPE_CHECKING:
    from workers.member import Member

Work = Coroutine[Any, Any, object]
"""Runs a process. If its result is true, it is run again, with the settings read anew."""
_NEW = 5000
"""New objects after which Python looks for reference cycles. Its default of 700 takes 4 % of the
CPU of a request (measured), and few requests leave cycles at all."""


def join_fabric(role: str, token: str | None, where: Where) -> None:
    """Make this machine the node that the token invites; from then on it needs no token. Without a
    token, nothing is done."""
    if token is None:
        return
    from deploy.nodes import joining

    log.configure(QUIET, role, for_now=True)
    with one_line(CommandFailed, SettingsError):
        if where.nats is not None:
            raise SettingsError("the token of --join says where the broker is: leave --nats out")
        node = asyncio.run(joining.join(token, role, where.data))
        typer.echo(joining.welcome(node, role), err=True)


async def run_again(member: Member) -> bool:
    """Run it. Returns whether it must begin again, as its node was renamed."""
    await member.run()
    return member.returns


def serve(
    role: str,
    run: Callable[[Settings], Work],
    where: Where,
    flags: dict[str, Any],
    *known: type[Exception],
) -> None:
    """Run one process of the fabric until it is told to stop; the loss of its terminal (SIGHUP)
    does not stop it. `known`: errors of it that end it with one line instead of a traceback."""
    signal.signal(signal.SIGHUP, lambda *_: None)  # unlike SIG_IGN, no program inherits this
    gc.set_threshold(_NEW)
    import uvloop

    from schemas import heap
    from schemas.bus import BusError

    with one_line(SettingsError, BusError, *known):
        settings = configure.resolve(role, where, flags)
        log.configure(settings.log, role)
        if foreign := passed_over():
            structlog.get_logger(role).info("settings.passed_over", variables=foreign)
        heap.share()
        heap.steady()
        gc.freeze()  # else each full collection goes through all that was imported, for 20 ms
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            while runner.run(run(settings)):
                settings = configure.resolve(role, where, flags)
