"""Checks JSON schemas, and texts against them: a program of its own, since both may take for ever.

    python -P ingress/answer/schema_child.py

A schema is a client's: its patterns may backtrack and its references multiply without end, and
nothing in Python can be stopped in the middle of that. So `ingress.answer.schema_checker` keeps
this program at hand, and kills it when its time is up. It reads a JSON array a line, ``[schema]``
or ``[schema, text]``, and answers with a JSON string a line: what is wrong, or "". Before the
first it says that it is `READY`.

Nothing is ever fetched: a reference must lead to a place inside the schema.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from typing import Any

import orjson
from jsonschema import Draft7Validator, Draft202012Validator, validators
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

MEMORY = 1 << 30
"""Bytes of address space that this program may take."""
PATIENCE = 10
"""Seconds for one question, beyond the ingress's own: one that was killed kills nobody."""
READY = "ready"
_BRIEF = 300


def check(schema: Any) -> str:
    """What is wrong with a schema itself."""
    if not isinstance(schema, dict):
        return "a schema is an object"
    kind = _kind(schema)
    try:
        kind.check_schema(schema)
        for reference in _references(schema):
            _resolver(schema).lookup(reference)
        list(kind(schema, registry=_nothing_else()).iter_errors(None))
    except SchemaError as fault:
        return _said(fault)
    except Unresolvable as fault:
        return f"the reference {fault.ref!r} does not lead to a place inside the schema"
    except RecursionError:
        return "it refers to itself without end"
    return ""


def verdict(schema: dict[str, Any], text: str) -> str:
    """What is wrong with a text that ought to be JSON of a schema that `check` has passed."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as fault:
        return f"it is not JSON: {fault}"
    kind = _kind(schema)
    try:
        misfit = best_match(kind(schema, registry=_nothing_else()).iter_errors(found))
    except RecursionError:
        return "the schema refers to itself without end"
    return _said(misfit) if misfit is not None else ""


def _nothing_else() -> Registry[Any]:
    return Registry()


def _resolver(schema: dict[str, Any]) -> Any:
    resource = DRAFT202012.create_resource(schema)
    return _nothing_else().with_resource("", resource).resolver()


def _kind(schema: dict[str, Any]) -> Any:
    """The draft that it names; else the newest, but for a list as `items`: that is draft 7's way to
    write a tuple, which llama-server takes and many clients send."""
    older = any(isinstance(found.get("items"), list) for found in _objects(schema))
    return validators.validator_for(
        schema, default=Draft7Validator if older else Draft202012Validator
    )


def _references(schema: Any) -> Iterator[str]:
    for found in _objects(schema):
        for name in ("$ref", "$dynamicRef"):
            if isinstance(found.get(name), str):
                yield found[name]


def _objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Every object in it, itself first."""
    waiting = [schema]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            yield found
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found


def _said(fault: ValidationError | SchemaError) -> str:
    where = fault.json_path.removeprefix("$").removeprefix(".")
    told = fault.message if len(fault.message) <= _BRIEF else fault.message[:_BRIEF] + " …"
    return f"{told} (at {where})" if where else told


def main() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError, OSError):
        pass  # not every system has such limits; the time limit is the ingress's
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
    """Die after `seconds` (0: never), whatever goes on: nobody handles this signal here."""
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)


if __name__ == "__main__":
    main()
