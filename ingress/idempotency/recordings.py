"""The answers that this ingress makes or reads for requests with a key."""

from __future__ import annotations

import asyncio

from ingress.idempotency.player import Player
from ingress.idempotency.recording import Recording
from ingress.idempotency.run import Run
from ingress.idempotency.store import AnswerStore
from schemas.bus import Bus


class Recordings:
    """`unheard`: seconds for which an answer goes on that nobody listens to."""

    def __init__(self, bus: Bus, unheard: float) -> None:
        self._store = AnswerStore(bus)
        self._unheard = unheard
        self._recordings: dict[str, Recording] = {}
        self._playing: dict[asyncio.Task[None], Player] = {}

    def join(self, name: str, digest: bytes, run: Run) -> Recording:
        """The recording under a key. `run` is used if nobody has answered the request yet."""
        known = self._recordings.get(name)
        if known is not None and known.digest == digest and (known.whole or not known.over):
            run.close()
            return known
        # One with another digest is refused where the stored one is read.
        recording = Recording(digest, run.room)
        self._recordings.setdefault(name, recording)
        self._play(name, recording, run)
        return recording

    def _play(self, name: str, recording: Recording, run: Run) -> None:
        loop = asyncio.get_running_loop()
        player = Player(self._store, name, recording, run)

        def leave() -> None:
            if not recording.followers:  # somebody may have come meanwhile
                player.leave()

        recording.unheard = lambda: loop.call_later(self._unheard, leave)
        task = loop.create_task(player.play())
        self._playing[task] = player

        def played(task: asyncio.Task[None]) -> None:
            del self._playing[task]
            run.close()
            recording.close()
            if self._recordings.get(name) is recording:
                del self._recordings[name]

        task.add_done_callback(played)

    async def close(self) -> None:
        """Stop what nobody listens to any more; another ingress may go on with it."""
        for player in self._playing.values():
            player.leave()
        await asyncio.gather(*self._playing)
