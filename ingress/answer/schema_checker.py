"""Whether schemas and answers are what they should be, found out by a child that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import OrderedDict
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import structlog

from schemas.api.json_format import JsonFormat
from schemas.settings import outside

log = structlog.get_logger("schema_checker")

PATIENCE = 3.0
"""Seconds for one question."""
START_PATIENCE = 20.0
"""Seconds for the child to start: 0.3 s, but many times that on a machine that is busy."""
TOO_COMPLEX = f"it cannot be checked within {PATIENCE:g} s"
_PROGRAM = Path(__file__).with_name("schema_child.py")
_KEPT = 1024


class SchemaChecker:
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

    async def misfit(self, form: JsonFormat, texts: Iterable[str | None]) -> str:
        """What is wrong with the first of `texts` that is not what `form` wants, or ""; its schema
        was checked. None stands for a text that is too long."""
        for text in texts:
            if text is None:
                return "it is too long to be checked"
            if form.schema is not None:
                why = await self._ask(orjson.dumps([form.schema, text]))
            else:
                why = _plain_fault(form, text)
            if why:
                return why
        return ""

    async def close(self) -> None:
        async with self._turn:
            await self._kill()

    async def _ask(self, question: bytes) -> str:
        async with self._turn:
            try:
                async with asyncio.timeout(START_PATIENCE):
                    child = await self._started()
                async with asyncio.timeout(self._patience):
                    return await _answer(child, question)
            except TimeoutError:
                log.warning("schema_checker.gave_up", question_bytes=len(question))
            except (OSError, ValueError) as fault:
                log.warning("schema_checker.child_died", error=str(fault))
            except asyncio.CancelledError:  # the answer would be taken for the next question's
                await self._kill()
                raise
            await self._kill()
            return TOO_COMPLEX

    async def _started(self) -> asyncio.subprocess.Process:
        """The child, once it listens. Raises OSError or ValueError if it cannot be started."""
        child = self._child
        if child is None or child.returncode is not None:
            child = self._child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", str(_PROGRAM)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=outside(),
            )
            await _line(child)
        return child

    async def _kill(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


def _plain_fault(form: JsonFormat, text: str) -> str:
    """What is wrong with `text` where there is no schema to hold it against."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as fault:
        return f"it is not JSON: {fault}"
    return "it is not a JSON object" if form.is_object and not isinstance(found, dict) else ""


async def _answer(child: asyncio.subprocess.Process, question: bytes) -> str:
    """Raises OSError or ValueError if the child is gone."""
    assert child.stdin is not None
    child.stdin.write(question + b"\n")
    await child.stdin.drain()
    return await _line(child)


async def _line(child: asyncio.subprocess.Process) -> str:
    assert child.stdout is not None
    return str(orjson.loads(await child.stdout.readline()))
