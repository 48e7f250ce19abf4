"""What all commands have in common, seen at commands of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from deploy.configure import CommandFailed, Where
from deploy.options import asks
from schemas import log

seen: list[tuple[Where, int, bool]] = []


async def look(where: Where, place: int, twice: bool = False) -> int:
    """Look at one place."""
    if place == 0:
        raise CommandFailed("there is no such place")
    seen.append((where, place, twice))
    return 3


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    monkeypatch.setattr(log, "configure", lambda *_: None)
    seen.clear()
    app = typer.Typer()
    app.command()(asks(look))
    return app


def ask(run: typer.Typer, *words: str) -> Result:
    return CliRunner().invoke(run, words)


def test_where_a_command_looks_is_told_by_three_options(run: typer.Typer, tmp_path: Path) -> None:
    done = ask(run, "7", "--twice", "--data", str(tmp_path), "--nats", "nats://n:1", "-c", "x.toml")
    assert done.exit_code == 3
    assert seen == [(Where(tmp_path, Path("x.toml"), "nats://n:1"), 7, True)]


def test_they_stand_behind_its_own_in_its_help(run: typer.Typer) -> None:
    told = ask(run, "--help").output
    places = [told.index(word) for word in ("--twice", "--config", "--nats", "--data")]
    assert places == sorted(places)
    assert "Look at one place." in told


def test_a_fault_of_the_user_is_one_line(run: typer.Typer) -> None:
    done = ask(run, "0")
    assert (done.exit_code, done.output) == (1, "headrace: there is no such place\n")
