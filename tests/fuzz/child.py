"""Fuzzes one target, where atheris is installed: ``python -m tests.fuzz.child NAME [OPTION …]``,
with options of libFuzzer. It ends with 77 if a check fails, and says with which bytes."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["schemas", "ingress", "fallback"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    program, name, *options = sys.argv
    atheris.Setup([program, *options], TARGETS[name].check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
