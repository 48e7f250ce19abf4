"""Pages of metrics of several processes as one, in Prometheus' text format. Pure.

Each sample gets the label `process`. Counters of a process that was started anew begin at 0 again,
which Prometheus sees in that process' own series; in a sum over all it would see a reset of all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_FAMILY = "# HELP "
_NAME = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(\{?)")


def merged(pages: Mapping[str, bytes]) -> bytes:
    """`pages`: by the names of the processes. The samples of one metric stand together, behind its
    two lines of comment, as the format demands."""
    families: dict[str, list[str]] = {}
    for process, page in pages.items():
        for family in page.decode().split(_FAMILY)[1:]:
            about, kind, *samples = family.splitlines()
            known = families.setdefault(f"{_FAMILY}{about}\n{kind}", [])
            known += (_labelled(sample, process) for sample in samples)
    return "".join(
        f"{line}\n" for about in families.items() for line in (about[0], *about[1])
    ).encode()


def _labelled(sample: str, process: str) -> str:
    found = _NAME.match(sample)
    if found is None:
        return sample
    name, brace = found.groups()
    label = f'{name}{{process="{process}"' + ("," if brace else "}")
    return label + sample[found.end() :]
