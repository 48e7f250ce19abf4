"""`docs/suites.md`: numbers, and each test that passes directly alone, with the reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version

from tests.suites.differences import DIFFERENCES
from tests.suites.run import Outcomes, Place, lost
from tests.suites.suites import SUITES

_HEAD = """\
# Test suites of others

Test suites that others publish, run twice: straight at llama-server, and at Headrace with that llama-server behind it. `scripts/suites` installs them from PyPI and npm into a folder that Git ignores, runs them, and with `--page` writes this page, which is not edited by hand. It ends with an error if a test passes directly and not through for a reason that is not below.

The engine is the quickstart's (`xllamacpp` {engine}) on two cores without a GPU, with models that can be had there: SmolLM2-135M, with a template that knows tools, and all-MiniLM-L6-v2. They are not the models that the suites were written for, so many tests fail at both places: for what a model said, or for what it cannot see. They are no measure of either side. What passes directly and not through is run twice again at both places, and is listed if it did so each time. llama.cpp's tests hold the answers of its own test models to patterns; these patterns are passed over at both places.

`neither`: those that fail or are skipped at both places.

"""  # noqa: E501
_BY_HAND = """
## Run once by hand
pydantic-ai's own tests are in no package. Those of its version 2.33.0 for OpenAI's models that ask an address (155, without those that fetch files from the internet) were taken from its repository and run through the fabric on 2026-11-29, at a double of llama-server that calls no tools, with what they compare with recorded answers passed over: 67 passed. What was refused was refused by name: tools of OpenAI's servers with no function beside them (26), `previous_response_id`, `background`, `web_search_options`, files, pictures and recordings for a model that takes none; conversations, files and `responses/compact` are no endpoints here; and the double counts no tokens. The others need an answer that it does not give. Its tests for Anthropic's models do not run with anthropic 2.14.

Not run: the tests of LiteLLM and LlamaIndex, which are in no package either; both are among the [clients](clients.md).
"""  # noqa: E501
_COLUMNS = ("suite", "version", "seen on", "tests", "passed directly", "passed through")
_MORE = ("direct alone", "through alone", "neither")


@dataclass(frozen=True, slots=True)
class Seen:
    version: str
    on: str
    found: Mapping[Place, Outcomes]


def written(seen: Mapping[str, Seen]) -> str:
    columns = (*_COLUMNS, *_MORE)
    rows = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    rows += [row(name, one) for name, one in seen.items()]
    text = _HEAD.format(engine=version("xllamacpp")) + "\n".join(rows) + "\n"
    return text + "".join(_section(name, one) for name, one in seen.items()) + _BY_HAND


def row(name: str, seen: Seen) -> str:
    direct, through = seen.found["direct"], seen.found["through"]
    gone = lost(seen.found)
    passed = {test for test, outcome in direct.items() if outcome.passed}
    gained = {test for test, outcome in through.items() if outcome.passed} - passed
    neither = set(direct) - passed - gained
    numbers = (len(direct), len(passed), len(passed) - len(gone) + len(gained))
    cells = (SUITES[name].title, seen.version, seen.on, *numbers, len(gone), len(gained))
    return f"| {' | '.join(map(str, (*cells, len(neither))))} |"


def reason(name: str, test: str) -> str:
    """Why a test passes directly and not through, if it is known."""
    for pattern, why in DIFFERENCES.get(name, ()):
        if re.search(pattern, test):
            return why
    return ""


def _section(name: str, seen: Seen) -> str:
    return "".join(f"{line}\n" for line in _lines(name, seen))


def _lines(name: str, seen: Seen) -> Iterator[str]:
    by_reason: dict[str, list[str]] = {}
    for test in lost(seen.found):
        by_reason.setdefault(reason(name, test) or "not known", []).append(test)
    left = SUITES[name].left
    if not (by_reason or left):
        return
    yield from ("", f"## {name}")
    if left:
        yield from (f"Not run: {left}.", "")
    if by_reason:
        yield "What passes directly and not through:"
    for why, tests in by_reason.items():
        forms = Counter(re.sub(r"\[.*", "", test) for test in tests)
        told = (
            f"`{test}`" + (f" × {number}" if number > 1 else "") for test, number in forms.items()
        )
        yield f"- {why}: {', '.join(told)}"
