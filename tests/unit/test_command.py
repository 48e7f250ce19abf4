"""The command looks whether what it finds is Headrace. Here it lies beside packages that are made
up, as it does in an environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import headrace

FILE = Path(headrace.__file__)


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A folder that Python looks into, with the command and packages that look like ours."""
    place = tmp_path / "site-packages"
    place.mkdir()
    shutil.copy(FILE, place)
    for name in headrace.PACKAGES:
        (place / name).mkdir()
        (place / name / "__init__.py").touch()
    (place / "deploy" / "cli.py").write_text("def main(): print('it runs')\n")
    return place


def run(environment: Path, *before: Path) -> tuple[int, str]:
    """Its exit code and what it says, where Python looks into `before` first."""
    path = [str(each) for each in (*before, environment)]
    code = f"import sys; sys.path[:0] = {path!r}; import headrace; headrace.main()"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_it_runs_where_all_packages_are_its_own(environment: Path) -> None:
    assert run(environment) == (0, "it runs\n")


@pytest.mark.parametrize("name", headrace.PACKAGES)
@pytest.mark.parametrize("form", ["{}/__init__.py", "{}.py"])
def test_a_stranger_is_named(environment: Path, tmp_path: Path, name: str, form: str) -> None:
    other = tmp_path / "other"
    stranger = other / form.format(name)
    stranger.parent.mkdir(parents=True)
    stranger.touch()
    code, said = run(environment, other)
    assert code == 1
    start = f"headrace: the package {name!r} that Python finds is {stranger}, not Headrace's. "
    assert said.startswith(start + "Install Headrace into an environment of its own")
    assert said.count("\n") == 1


def test_its_distribution_is_named(environment: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "schemas").mkdir(parents=True)
    (other / "schemas" / "__init__.py").touch()
    about = other / "somebodys-0.3.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys\nVersion: 0.3\n")
    (about / "top_level.txt").write_text("schemas\n")
    assert "not Headrace's: somebodys has one, too. Install" in run(environment, other)[1]


def test_one_that_is_missing_is_named(environment: Path) -> None:
    shutil.rmtree(environment / "fallback")
    assert run(environment)[1].startswith("headrace: there is no package 'fallback' beside ")


def test_one_that_another_distribution_wrote_over_is_named(environment: Path) -> None:
    """Both lie in one folder then, so only what is missing tells."""
    (environment / "deploy" / "cli.py").write_text("from schemas import settings\n")
    code, said = run(environment)
    assert code == 1
    assert said.startswith("headrace: the package 'schemas' is not whole (cannot import name")


def test_what_others_lack_is_not_hidden(environment: Path) -> None:
    (environment / "deploy" / "cli.py").write_text("import no_such_dependency\n")
    assert "ModuleNotFoundError: No module named 'no_such_dependency'" in run(environment)[1]
