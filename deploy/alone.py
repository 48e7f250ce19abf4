"""``headrace broker``: the broker on a machine of its own, and the hub that lets others in, until
Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy import configure, home, own_broker, plan
from deploy.nats.broker import Broker
from deploy.nats.watch import kept_running
from deploy.screen import Screen
from schemas.settings import Settings


def checked(config: Path | None, data: Path, flags: Mapping[str, Any]) -> Settings:
    """Its settings. Raises SettingsError for what a broker cannot be with."""
    settings = configure.read(config, flags)
    plan.own_broker(settings)
    home.make(data)
    plan.unused(data)
    return settings


class Alone:
    def __init__(self, settings: Settings, data: Path, screen: Screen) -> None:
        self._settings = settings
        self._data = data
        self._screen = screen
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Raises CommandFailed, and BusError if the broker refuses this process."""
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        async with own_broker.running(self._settings, self._data) as broker:
            await self._serve(broker)

    async def _serve(self, broker: Broker) -> None:
        settings, screen = self._settings, self._screen
        own_broker.tell(broker, settings, screen)
        letting_in = own_broker.hub(broker, settings, self._data, screen)
        stopped = asyncio.create_task(self._stop.wait())
        watching = asyncio.create_task(kept_running(broker, self._stop, screen))
        self._welcome(broker)
        try:
            await asyncio.wait({letting_in, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if letting_in.done():
                letting_in.result()
        finally:
            self._stop.set()
            for task in (letting_in, stopped):
                task.cancel()
            await asyncio.gather(letting_in, stopped, watching, return_exceptions=True)

    def _welcome(self, broker: Broker) -> None:
        command = plan.own_command()
        place = [] if self._data == home.data_dir() else ["--data", str(self._data)]
        if broker.addresses:
            words = [*command, "node", "invite", "NAME", *place]
            self._screen.shared(broker.addresses, " ".join(words))
        else:
            self._screen.note(
                "other machines do not reach it: --share, or a host in [share], lets them"
            )
        self._screen.note("Ctrl-C stops it.")
