"""Checks JSON schemas, and texts against them, in a program of its own: such checks may take for
ever. It also says what is wrong with schemas and texts that are checked elsewhere.

    python -P -m ingress.answer.schema_child

A schema comes from a client. Its references may multiply without end, and a check cannot be stopped
midway. So `ingress.answer.schema_checker` keeps this program running, and kills it when its time is
up. The program first says `READY`. Then it reads JSON arrays, one a line, ``[schema]`` or
``[schema, text]``, and answers each with a JSON string in a line: what is wrong, or "".
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import orjson
from jsonschema_rs import FancyRegexOptions, ValidationError

from ingress.answer.schema_validator import compiled
from schemas.api.schema_tree import objects

MEMORY = 1 << 29
"""Bytes of address space that this program may take."""
NICE = 5
"""How far it stands back where there are fewer cores than work."""
PATIENCE = 10
"""Seconds for one question, more than the ingress waits. This ends the child of an ingress that was
killed, and so cannot kill the child."""
READY = "ready"
_BRIEF = 300
"""Letters of a fault that are told."""
_PATTERNS = FancyRegexOptions(backtrack_limit=1_000_000, size_limit=10 << 20)
_DEEP = "it is nested too deeply"
_NOWHERE = "does not exist", "retrieving it failed"
"""Words of the library for a reference that leads nowhere."""


def check(schema: Any) -> str:
    """What is wrong with the schema itself, or ""."""
    if not isinstance(schema, dict):
        return "a schema is an object"
    try:
        compiled(schema, _PATTERNS).is_valid(None)
    except ValidationError as fault:
        if fault.kind.name == "$ref" and any(words in fault.message for words in _NOWHERE):
            return (
                f"the reference {_lost(schema, fault)} does not lead to a place inside the schema"
            )
        return _said(fault)
    except ValueError:
        return _DEEP
    return ""


def verdict(schema: dict[str, Any], text: str) -> str:
    """What is wrong with a text that has to fit a schema, or "". `check` has passed the schema."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as fault:
        return f"it is not JSON: {fault}"
    try:
        compiled(schema, _PATTERNS).validate(found)
    except ValidationError as fault:
        return _said(_nearest(fault))
    except ValueError:
        return _DEEP
    return ""


def _lost(schema: Any, fault: ValidationError) -> str:
    """The reference that the fault is about, as the schema writes it."""
    told = fault.message.split("'")[1]
    references = (found["$ref"] for found in objects(schema) if "$ref" in found)
    return repr(next((each for each in references if str(each).endswith(told)), told))


def _nearest(fault: ValidationError) -> ValidationError:
    """If none of several alternatives fits: the fault of the one that fits deepest."""
    choices = getattr(fault.kind, "context", ())
    inner = [each for choice in choices for each in choice]
    if not inner:
        return fault
    deepest = max(inner, key=lambda each: len(each.instance_path))
    return _nearest(deepest) if len(deepest.instance_path) > len(fault.instance_path) else fault


def _said(fault: ValidationError) -> str:
    where = "".join(
        f"[{step}]" if isinstance(step, int) else f".{step}" for step in fault.instance_path
    ).removeprefix(".")
    told = fault.message if len(fault.message) <= _BRIEF else fault.message[:_BRIEF] + " …"
    return f"{told} (at {where})" if where else told


def main() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError, OSError):
        pass  # not every system has such limits; the ingress's time limit remains
    if hasattr(os, "nice"):
        os.nice(NICE)
    _say(READY)
    for line in sys.stdin.buffer:
        _alarm(PATIENCE)
        question = orjson.loads(line)
        answer = check(*question) if len(question) == 1 else verdict(*question)
        _say(answer)
        _alarm(0)


def _say(answer: str) -> None:
    sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
    sys.stdout.buffer.flush()


def _alarm(seconds: int) -> None:
    """Die after `seconds` (0: never), whatever goes on: without a handler SIGALRM kills."""
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)


if __name__ == "__main__":
    main()
