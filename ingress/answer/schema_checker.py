"""Checks schemas, and answers against them.

With most schemas a check takes microseconds, whatever the text says: such checks are done here. A
check that may take long is done in a child process that can be killed. There are a few of those,
and each key has one at a time. A child also finds the words for what is wrong
(`docs/adr/0011-schemas.md`).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import sys
import time
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
from ingress.turns import TooManyWait, Turns
from schemas.api.json_format import Finished, Formats, JsonFormat
from schemas.errors import DeadlineExceeded, QueueFull
from schemas.settings import outside

log = structlog.get_logger("schema_checker")

PATIENCE = 3.0
"""Seconds for one question."""
START_PATIENCE = 20.0
"""Seconds for the child to start. It takes 0.3 s, but many times that on a busy machine."""
TOO_COMPLEX = f"it cannot be checked within {PATIENCE:g} s"
REMEMBERED = 300.0
"""Seconds for which a question that took too long is not asked again. Perhaps only the machine was
slow."""
CHILDREN, WAITING = 4, 32
"""Children at most, and questions of one key that may wait for its turn."""
_NO_TIME = "no time was left to check it, as other schemas of this key were being checked"
# -P: the folder in which the ingress was started is not searched for modules.
_COMMAND = (sys.executable, "-P", "-m", "ingress.answer.schema_child")
_PACKAGES = str(Path(__file__).parents[2])
_KEPT = 1024
"""Schemas that are remembered."""
_MOST = 2_000_000
"""Weight of a schema times letters of a text, up to which the text is checked here. This takes 50
ms at worst (measured)."""
_HEAVIEST, _LONGEST = 20_000, 200_000
"""Weight and bytes of a schema, up to which it is compiled here. This takes 0.1 s at most
(measured)."""
_PATTERNS = RegexOptions(size_limit=1 << 16, dfa_size_limit=1 << 16)
"""Patterns without backtracking, so that their time grows only in proportion to the text."""


@dataclass(slots=True)
class _Known:
    """A schema that was seen, and what is wrong with it, or "". `validator`: checks texts here;
    None if the schema is for the child."""

    fault: str
    weight: int = HEAVY
    validator: Validator | None = None

    def fits(self, text: str) -> bool:
        """True if the text fits. False if it does not, or if the child has to find out."""
        if self.validator is None or self.weight * len(text) > _MOST:
            return False
        try:
            return self.validator.is_valid(orjson.loads(text))
        except ValueError:  # no JSON, or nested too deeply
            return False


@dataclass(frozen=True, slots=True)
class Asker:
    """For whom a schema is checked: a key, and by when, in the event loop's seconds."""

    key: str = ""
    by: float = math.inf


class SchemaChecker:
    """Starts a child with the first question for it."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._turns = Turns(CHILDREN, 1, WAITING)
        self._children: list[_Child] = []
        self._idle: list[_Child] = []
        self._schemas: OrderedDict[bytes, _Known] = OrderedDict()
        self._given_up: OrderedDict[bytes, float] = OrderedDict()
        """Questions that took too long, and until when they are not asked again."""

    async def check(self, schema: dict[str, Any], asker: Asker = Asker()) -> str:
        """What is wrong with a schema, or "". Raises QueueFull, DeadlineExceeded."""
        return (await self._known(schema, asker)).fault

    async def fault_of(self, formats: Formats, asker: Asker = Asker()) -> tuple[str, str]:
        """The path of the first schema that is none, and what is wrong with it; both are empty if
        all are schemas. Raises QueueFull, DeadlineExceeded."""
        for form in formats:
            if form.schema is not None and (why := await self.check(form.schema, asker)):
                return form.param, why
        return "", ""

    async def misfit(
        self, formats: Formats, parts: Iterable[Finished], asker: Asker = Asker()
    ) -> str:
        """What is wrong with the first of `parts` that does not fit `formats`, or "". The schemas
        must have passed `fault_of`. What cannot be asked in time does not fit."""
        for part in parts:
            form = formats.of(part)
            if form is None:
                continue
            if part.text is None:
                why = "it is too long to be checked"
            else:
                why = await self._fault(form, part.text, asker)
            if why:
                return f"the arguments of {part.tool!r}: {why}" if part.tool else why
        return ""

    async def _fault(self, form: JsonFormat, text: str, asker: Asker) -> str:
        if form.schema is None:
            return _plain_fault(form, text)
        try:
            known = await self._known(form.schema, asker)
            # Also where the text is known not to fit: the child finds the words for it.
            return "" if known.fits(text) else await self._ask([form.schema, text], asker)
        except (QueueFull, DeadlineExceeded):
            return _NO_TIME

    async def _known(self, schema: dict[str, Any], asker: Asker) -> _Known:
        """What is known of a schema; the last ones are remembered."""
        question = orjson.dumps([schema])
        digest = sha256(question).digest()
        known = self._schemas.get(digest)
        if known is None:
            light = _light(schema) if len(question) <= _LONGEST else None
            known = light or _Known(await self._ask([schema], asker))
            if known.fault != TOO_COMPLEX:
                self._schemas[digest] = known
            if len(self._schemas) > _KEPT:
                self._schemas.popitem(last=False)
        return known

    async def close(self) -> None:
        """Nobody asks any more."""
        for child in self._children:
            await child.kill()

    async def _ask(self, asked: list[Any], asker: Asker) -> str:
        """A child's answer, or `TOO_COMPLEX`. Raises QueueFull, DeadlineExceeded."""
        question = orjson.dumps(asked)
        digest = sha256(question).digest()
        by = None if math.isinf(asker.by) else asker.by
        try:
            async with asyncio.timeout_at(by), self._turns.turn(asker.key):
                if self._is_given_up(digest):
                    return TOO_COMPLEX
                answer = await self._asked_of_a_child(question)
        except TooManyWait:
            why = f"{WAITING} schemas of this key wait to be checked already. Try again later."
            raise QueueFull(why, retry_after=self._patience) from None
        except TimeoutError:
            raise DeadlineExceeded(f"The schema was not checked: {_NO_TIME}.") from None
        if answer == TOO_COMPLEX:
            self._give_up(digest)
        return answer

    async def _asked_of_a_child(self, question: bytes) -> str:
        if not self._idle:
            self._children.append(_Child())
            self._idle.append(self._children[-1])
        child = self._idle.pop()
        try:
            return await child.ask(question, self._patience)
        finally:
            self._idle.append(child)

    def _is_given_up(self, digest: bytes) -> bool:
        until = self._given_up.get(digest)
        return until is not None and time.monotonic() < until

    def _give_up(self, digest: bytes) -> None:
        self._given_up[digest] = time.monotonic() + REMEMBERED
        if len(self._given_up) > _KEPT:
            self._given_up.popitem(last=False)


class _Child:
    """A child process, which is started with the first question, and anew after one that it did not
    answer."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def ask(self, question: bytes, patience: float) -> str:
        try:
            async with asyncio.timeout(START_PATIENCE):
                process = await self._started()
            async with asyncio.timeout(patience):
                return await _answer(process, question)
        except TimeoutError:
            log.warning("schema_checker.gave_up", question_bytes=len(question))
        except (OSError, ValueError) as fault:
            log.warning("schema_checker.child_died", error=str(fault))
        except asyncio.CancelledError:  # the next question would read this one's answer
            await self.kill()
            raise
        await self.kill()
        return TOO_COMPLEX

    async def _started(self) -> asyncio.subprocess.Process:
        """The process, once it listens. Raises OSError or ValueError if it cannot be started."""
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await asyncio.create_subprocess_exec(
                *_COMMAND,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={**outside(), "PYTHONPATH": _PACKAGES},
            )
            await _line(process)
        return process

    async def kill(self) -> None:
        if (process := self._process) is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        if self._process is process:
            self._process = None


def _light(schema: dict[str, Any]) -> _Known | None:
    """What is known of a schema that can be compiled here; None if it is too heavy, or wrong."""
    heavy = weight(schema)
    if heavy > _HEAVIEST:
        return None
    try:
        return _Known("", heavy, compiled(schema, _PATTERNS))
    except ValueError:  # ValidationError is one
        return None


def _plain_fault(form: JsonFormat, text: str) -> str:
    """What is wrong with `text` if `form` has no schema, or ""."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as fault:
        return f"it is not JSON: {fault}"
    return "it is not a JSON object" if form.is_object and not isinstance(found, dict) else ""


async def _answer(child: asyncio.subprocess.Process, question: bytes) -> str:
    """The child's answer. Raises OSError or ValueError if the child is gone."""
    assert child.stdin is not None
    child.stdin.write(question + b"\n")
    await child.stdin.drain()
    return await _line(child)


async def _line(child: asyncio.subprocess.Process) -> str:
    assert child.stdout is not None
    return str(orjson.loads(await child.stdout.readline()))
