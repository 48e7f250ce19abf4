"""The tables of `docs/security.md`: who may say what at the broker, and what was tried.

    python -m tests.rights_page docs/security.md

Nothing is decided here: `deploy/nats/rights.py` has the rights, `tests/doubles/hostile/acts.py` the
acts.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from deploy.nats import rights
from deploy.nats.rights import Account, Crossing, Grant
from schemas.registry import Node
from tests.doubles.hostile import acts

_PLACE = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.S)


def page(text: str) -> str:
    """`text` with its tables as they are by the code."""
    return _PLACE.sub(lambda found: f"{found[1]}{_TABLES[found[2]]()}{found[3]}", text)


def _rows(head: str, rows: Iterable[Iterable[str]]) -> str:
    names = head.split("|")
    lines = [names, ["---"] * len(names), *rows]
    return "".join(f"| {' | '.join(each)} |\n" for each in lines)


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{each}`" for each in names)


def _crossings() -> str:
    def key(each: Crossing) -> tuple[str, str, tuple[Account, ...]]:
        return each.owner, each.kind, each.to

    found: dict[tuple[str, str, tuple[Account, ...]], list[str]] = {}
    for each in rights.CROSSINGS:
        found.setdefault(key(each), []).append(each.subject)
    rows = (
        (f"`{owner}`", _code(to), "is asked" if kind == "service" else "is heard", _code(names))
        for (owner, kind, to), names in found.items()
    )
    return _rows("of|in|how|subjects", rows)


def _logins() -> str:
    return _rows("login|account|publishes|hears", _each_login())


def _each_login() -> Iterator[tuple[str, str, str, str]]:
    for role, (account, grant) in rights.LOGINS.items():
        yield f"`{role}`", f"`{account}`", *_granted(grant)
    (joined,) = rights.node_users(Node("NODE", served=("MODEL",)), "U")
    yield "a joined worker `NODE` with `MODEL`", f"`{joined.account}`", *_granted(joined.grant)


def _granted(grant: Grant | None) -> tuple[str, str]:
    if grant is None:
        return "all of its account", "all of its account"
    return _code(grant.publish), _code(grant.subscribe)


def _denied() -> str:
    found: dict[tuple[str, str], list[str]] = {}
    for act in acts.DENIED:
        how = "hears" if act.hears else "says"
        found.setdefault((act.what, f"{how} `{act.subject}`"), []).append(act.who)
    rows = ((what, how, ", ".join(who)) for (what, how), who in found.items())
    return _rows("act|how|denied to", rows)


def _replies() -> str:
    asked = (f"{who}: {_code(subjects)}" for who, subjects in acts.ASKED.items())
    lines = [*asked, f"each with one of these as the reply: {_code(acts.REPLIES)}"]
    return "".join(f"- {each}\n" for each in lines)


_TABLES: Mapping[str, Callable[[], str]] = {
    "crossings": _crossings,
    "logins": _logins,
    "denied": _denied,
    "replies": _replies,
}


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(page(file.read_text()))
