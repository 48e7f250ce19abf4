"""``python -m tests.builders whisper``: builds it if need be; the paths as JSON on stdout."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from tests.builders import minilm, mmproj, sd, whisper
from tests.builders.errors import BuildError
from tests.builders.store import Say

BUILDS: dict[str, Callable[[Say], Any]] = {
    "minilm": minilm.build,
    "mmproj": mmproj.build,
    "sd": sd.build,
    "whisper": whisper.build,
}
"""One line for each engine that can be built; the value is a dataclass of paths."""


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.builders", description=__doc__)
    parser.add_argument("engine", nargs="+", choices=sorted(BUILDS))
    for name in parser.parse_args().engine:
        try:
            built = BUILDS[name](say)
        except BuildError as fault:
            sys.exit(f"{name}: {fault}")
        print(json.dumps({name: asdict(built)}, default=str), flush=True)


if __name__ == "__main__":
    main()
