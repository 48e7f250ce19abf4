"""``scripts/fuzz [NAME …] [--seconds N]``: each target, one after the other, in its own process.
What is found stays in ``.cache/fuzz/NAME``, and the next run begins with it."""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
from pathlib import Path

from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "fuzz"


def fuzzed(name: str, seconds: int) -> bool:
    """Whether nothing was found."""
    corpus = CACHE / name
    corpus.mkdir(parents=True, exist_ok=True)
    for data in TARGETS[name].corpus:
        (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    options = [f"-max_total_time={seconds}", f"-artifact_prefix={CACHE}/{name}-", "-max_len=8192"]
    command = [sys.executable, "-m", "tests.fuzz.child", name, *options, "-print_final_stats=1"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{CACHE / 'packages'}"}
    command = [*command, str(corpus)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    said = done.stderr + done.stdout
    if done.returncode:
        print(said[-4000:])
    counted = (line.split()[-1] for line in said.splitlines() if "number_of_executed_units" in line)
    print(f"{name}: {next(counted, '?')} runs, {'FAILED' if done.returncode else 'nothing found'}")
    return done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/fuzz")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in TARGETS]:
        parser.error(f"there is no {unknown[0]!r}: {', '.join(TARGETS)}")
    fine = [fuzzed(name, options.seconds) for name in options.names or TARGETS]
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
