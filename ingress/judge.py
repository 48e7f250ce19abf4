"""Whether schemas and answers are what they should be, found out by a child that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import OrderedDict
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import structlog

from schemas.settings import outside

log = structlog.get_logger("judge")

PATIENCE = 3.0
"""Seconds for one question; the first one also waits for the child to start (0.3 s)."""
TOO_COMPLEX = f"it cannot be checked within {PATIENCE:g} s"
_PROGRAM = Path(__file__).with_name("validator.py")
_KEPT = 1024


class Judge:
    """Starts the child with the first question. One question at a time."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._child: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._schemas: OrderedDict[bytes, str] = OrderedDict()

    async def check(self, schema: dict[str, Any]) -> str:
        """What is wrong with a schema, or ""; the last ones are remembered."""
        question = orjson.dumps([schema])
        digest = sha256(question).digest()
        known = self._schemas.get(digest)
        if known is None:
            known = await self._ask(question)
            if known != TOO_COMPLEX:  # it may have been the machine
                self._schemas[digest] = known
            if len(self._schemas) > _KEPT:
                self._schemas.popitem(last=False)
        return known

    async def verdict(self, schema: dict[str, Any], text: str) -> str:
        """What is wrong with `text` as JSON of a schema that was checked, or ""."""
        return await self._ask(orjson.dumps([schema, text]))

    async def close(self) -> None:
        async with self._turn:
            await self._kill()

    async def _ask(self, question: bytes) -> str:
        async with self._turn:
            try:
                async with asyncio.timeout(self._patience):
                    return await self._answer(question)
            except TimeoutError:
                log.warning("judge.gave_up", question_bytes=len(question))
            except (OSError, ValueError) as fault:
                log.warning("judge.child_died", error=str(fault))
            except asyncio.CancelledError:  # the answer would be taken for the next question's
                await self._kill()
                raise
            await self._kill()
            return TOO_COMPLEX

    async def _answer(self, question: bytes) -> str:
        """Raises OSError or ValueError if the child is gone."""
        child = self._child
        if child is None or child.returncode is not None:
            child = self._child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", str(_PROGRAM)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=outside(),
            )
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(question + b"\n")
        await child.stdin.drain()
        return str(orjson.loads(await child.stdout.readline()))

    async def _kill(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()
