"""Adds the table of an engine to the file of settings, and leaves all else in it as it is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from deploy import configure
from deploy.configure import CommandFailed
from deploy.engines.faults import BadInput
from deploy.status import plain
from schemas import bounds
from schemas.settings import SettingsError

DEFAULT = Path("headrace.toml")
"""In the working directory, where no file is named."""
_NEW = "# Settings of Headrace: deploy/config.example.toml of the repository has them all.\n"
_PRIVATE = 0o600
"""Mode of a new file: it may hold keys."""


def text(table: Mapping[str, Any], notes: Iterable[str] = ()) -> str:
    """A table [[engines]] as it is written, with `notes` as comments before it. These may be an
    engine's own words, and are held to one line."""
    rows = [f"# {plain(bounds.cut(note))}" for note in notes]
    rows += ["[[engines]]", *(f"{key} = {configure.toml(value)}" for key, value in table.items())]
    return "\n".join(rows) + "\n"


def append(path: Path, added: str) -> None:
    """Write the text of a table behind all that is in the file, which need not exist yet. The whole
    is checked as `headrace config check` does, before it takes the file's place at once; mode and
    owner stay. Raises BadInput or CommandFailed, and then nothing has changed."""
    place = _place(path)
    with _alone(place):
        _append(path, place, added)


def _append(path: Path, place: Path, added: str) -> None:
    before = _read(place)
    whole = _joined(before, added)
    _check_rest(path, before, whole)
    draft = place.with_name(f".{place.name}.new")
    try:
        _write(draft, whole, place)
        try:
            configure.checked(draft)
        except SettingsError as fault:
            raise BadInput(f"{path} would not be right, and is as it was: {fault}") from None
        if _read(place) != before:
            raise CommandFailed(f"{path} was changed meanwhile, and is left so: try again")
        draft.replace(place)
    except OSError as fault:
        raise CommandFailed(f"{path} cannot be written: {fault.strerror}") from None
    finally:
        draft.unlink(missing_ok=True)


def _place(path: Path) -> Path:
    """The file itself: a link to it stays one. Links that lead nowhere are told when it is read."""
    return Path(os.path.realpath(path))


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Other commands that would write to a file of this folder wait meanwhile: two of them would
    overwrite each other's table."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # no such folder, which is told later, or no locks there
            folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, folder)
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield


def _read(place: Path) -> str:
    """ "" for a file that is not there. Raises BadInput."""
    try:
        with place.open(encoding="utf-8", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise BadInput(f"{place} is no text in UTF-8") from None
    except OSError as fault:
        raise BadInput(f"{place}: {fault.strerror}") from None


def _joined(before: str, added: str) -> str:
    if not before:
        return f"{_NEW}\n{added}"
    # Lines end as they do in the file.
    end = "\r\n" if "\r\n" in before else "\n"
    gap = end if before.endswith("\n") else 2 * end
    return before + gap + added.replace("\n", end)


def _check_rest(path: Path, before: str, whole: str) -> None:
    """Raises BadInput unless the file says the same as before, and one engine more."""
    try:
        old = tomllib.loads(before)
    except tomllib.TOMLDecodeError as fault:
        raise BadInput(f"{path} is no TOML, and is left so: {fault}") from None
    try:
        new = tomllib.loads(whole)
    except tomllib.TOMLDecodeError:
        raise BadInput(
            f"{path} has its engines in another form (engines = […]), to which nothing can be "
            "added: write each as a table [[engines]]"
        ) from None
    *others, _ = new.pop("engines")
    if {**new, "engines": others} != {"engines": [], **old}:
        raise CommandFailed(f"{path} would say something else than before, and is as it was")


def _write(draft: Path, whole: str, place: Path) -> None:
    """With the mode and the owner of the file at `place`. Raises OSError."""
    draft.unlink(missing_ok=True)  # one that was ended may have left it
    opened = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
    with open(opened, "w", encoding="utf-8", newline="") as file:
        if place.exists():
            state = place.stat()
            if (state.st_uid, state.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(opened, state.st_uid, state.st_gid)
            os.fchmod(opened, state.st_mode & 0o7777)
        file.write(whole)
        file.flush()
        os.fsync(opened)
