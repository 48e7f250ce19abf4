"""The command ``headrace``, before it is known that what it imports is Headrace.

Its packages have names that others use, too. So this file, whose name is ours alone, looks first
whether Python finds the packages that lie beside it, and says so where it does not.
"""

from __future__ import annotations

import sys
from importlib import metadata, util
from pathlib import Path

PACKAGES = ("deploy", "fallback", "ingress", "schemas", "workers")
_HOME = Path(__file__).resolve().parent
_REMEDY = (
    "Install Headrace into an environment of its own, as 'pipx install' and 'uv tool install' do, "
    "and leave PYTHONPATH empty"
)


def main() -> None:
    for name in PACKAGES:
        if (found := _found(name)) != _HOME / name / "__init__.py":
            sys.exit(f"headrace: {_stranger(name, found)}. {_REMEDY}")
    try:
        from deploy.cli import main as command
    except ImportError as fault:
        name = (fault.name or "").partition(".")[0]
        if name not in PACKAGES:
            raise
        sys.exit(f"headrace: the package {name!r} is not whole ({fault}){_owners(name)}. {_REMEDY}")
    command()


def _found(name: str) -> Path | None:
    """The file that ``import`` would read first for the name; None: there is none."""
    try:
        spec = util.find_spec(name)
    except ValueError:  # a module that was made by hand
        return None
    return Path(spec.origin).resolve() if spec and spec.origin else None


def _stranger(name: str, found: Path | None) -> str:
    if found is None:
        return f"there is no package {name!r} beside {__file__}"
    return f"the package {name!r} that Python finds is {found}, not Headrace's{_owners(name)}"


def _owners(name: str) -> str:
    """Which other installed distributions have a package of that name."""
    others = {
        each for each in metadata.packages_distributions().get(name, []) if each != "headrace"
    }
    return f": {', '.join(sorted(others))} has one, too" if others else ""


if __name__ == "__main__":
    main()
