"""Whether schemas and answers are what they should be.

Most schemas are such that a text is held against them in microseconds, whatever it says: that is
done here. What may take long, and the words for what is wrong, are asked of a child that can be
killed, one question at a time (`docs/adr/0011-schemas.md`).
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import structlog
from jsonschema_rs import RegexOptions, Validator

from ingress.answer.schema_validator import compiled
from ingress.answer.schema_weight import HEAVY, weight
from schemas.api.json_format import JsonFormat
from schemas.settings import outside

log = structlog.get_logger("schema_checker")

PATIENCE = 3.0
"""Seconds for one question."""
START_PATIENCE = 20.0
"""Seconds for the child to start: 0.3 s, but many times that on a machine that is busy."""
TOO_COMPLEX = f"it cannot be checked within {PATIENCE:g} s"
_COMMAND = (sys.executable, "-P", "-m", "ingress.answer.schema_child")
_PACKAGES = str(Path(__file__).parents[2])
_KEPT = 1024
_MOST = 2_000_000
"""Weight by letters of a text that is judged here: 50 ms in the worst case (measured)."""
_HEAVIEST, _LONGEST = 20_000, 200_000
"""Weight and bytes of a schema that is compiled here, in 0.1 s at most (measured)."""
_PATTERNS = RegexOptions(size_limit=1 << 16, dfa_size_limit=1 << 16)
"""They take time that grows with the text, and no more."""


@dataclass(slots=True)
class _Known:
    """A schema that was seen: what is wrong with it, and what judges texts here, if that can."""

    fault: str
    weight: int = HEAVY
    validator: Validator | None = None

    def fits(self, text: str) -> bool:
        """False also if it is not known."""
        if self.validator is None or self.weight * len(text) > _MOST:
            return False
        try:
            return self.validator.is_valid(orjson.loads(text))
        except ValueError:  # no JSON, or nested too deeply
            return False


class SchemaChecker:
    """Starts the child with the first question for it."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._child: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._schemas: OrderedDict[bytes, _Known] = OrderedDict()

    async def check(self, schema: dict[str, Any]) -> str:
        """What is wrong with a schema, or ""."""
        return (await self._known(schema)).fault

    async def misfit(self, form: JsonFormat, texts: Iterable[str | None]) -> str:
        """What is wrong with the first of `texts` that is not what `form` wants, or ""; its schema
        was checked. None stands for a text that is too long."""
        for text in texts:
            if text is None:
                return "it is too long to be checked"
            if why := await self._fault(form, text):
                return why
        return ""

    async def _fault(self, form: JsonFormat, text: str) -> str:
        if form.schema is None:
            return _plain_fault(form, text)
        known = await self._known(form.schema)
        return "" if known.fits(text) else await self._ask(orjson.dumps([form.schema, text]))

    async def _known(self, schema: dict[str, Any]) -> _Known:
        """The last ones are remembered, but not that one took too long: it may have been the
        machine."""
        question = orjson.dumps([schema])
        digest = sha256(question).digest()
        known = self._schemas.get(digest)
        if known is None:
            light = _light(schema) if len(question) <= _LONGEST else None
            known = light or _Known(await self._ask(question))
            if known.fault != TOO_COMPLEX:
                self._schemas[digest] = known
            if len(self._schemas) > _KEPT:
                self._schemas.popitem(last=False)
        return known

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
                *_COMMAND,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={**outside(), "PYTHONPATH": _PACKAGES},
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


def _light(schema: dict[str, Any]) -> _Known | None:
    """None if it is not light, or none at all."""
    heavy = weight(schema)
    if heavy > _HEAVIEST:
        return None
    try:
        return _Known("", heavy, compiled(schema, _PATTERNS))
    except ValueError:  # ValidationError is one
        return None


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
