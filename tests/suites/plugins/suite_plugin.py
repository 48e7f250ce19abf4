"""Loaded into the pytest of a foreign suite: writes what each test did as a line of JSON to the
file of SUITE_RESULTS, and gives the suite the key of SUITE_KEY where it has one written down."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

_LONGEST = 400
_MODULES = ("tests.conftest",)
"""Where openai's and anthropic's tests have `api_key`."""


def pytest_collection_finish() -> None:
    for name in _MODULES:
        if hasattr(sys.modules.get(name), "api_key"):
            sys.modules[name].api_key = os.environ["SUITE_KEY"]


def pytest_runtest_logreport(report: Any) -> None:
    if report.when == "call" or report.outcome != "passed":
        _write(report.nodeid, report.outcome, _said(report))


def pytest_collectreport(report: Any) -> None:
    if report.outcome == "failed":
        _write(report.nodeid, "failed", str(report.longrepr))


def _said(report: Any) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return crash.message if crash else str(report.longrepr or "")


def _write(name: str, outcome: str, said: str) -> None:
    line = {"name": name, "outcome": outcome, "said": said[:_LONGEST]}
    with open(os.environ["SUITE_RESULTS"], "a") as results:
        results.write(json.dumps(line) + "\n")
