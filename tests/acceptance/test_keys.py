"""A key that is given to somebody: made, limited, used by OpenAI's client, and taken back."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.acceptance.headrace_up import HEADRACE, PATIENCE, HeadraceUp, environment, headrace, up

ROOT = Path(__file__).parents[2]
CONFIG = '[[keys]]\nname = "fixed"\nsecret = "sk-fixed-0123456789abcdef"\nnote = "of the file"\n'


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeadraceUp]:
    home = tmp_path_factory.mktemp("keys")
    config = home / "headrace.toml"
    config.write_text(CONFIG)
    engines = ("--engine", "echo://?model=echo", "--engine", "echo:two=echo://?model=other")
    with up(home / "data", "--config", str(config), *engines) as made:
        yield made


def key(to: HeadraceUp, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    config = to.data.parent / "headrace.toml"
    place = ["--data", str(to.data), "--config", str(config)]
    return subprocess.run(
        [*HEADRACE, "key", *words, *place],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE,
        env=environment(),
        check=False,
    )


def made(to: HeadraceUp, name: str, *options: str) -> str:
    """The secret of a new key."""
    done = key(to, "create", name, *options)
    assert done.returncode == 0, done.stderr
    (secret,) = done.stdout.splitlines()
    assert secret not in done.stderr
    return secret


def chat(to: HeadraceUp, secret: str, model: str = "echo") -> str:
    """The text of an answer, or the code of the error."""
    asked: Any = [{"role": "user", "content": "hello there"}]
    with openai.OpenAI(base_url=to.url, api_key=secret, max_retries=0, timeout=PATIENCE) as client:
        try:
            done = client.chat.completions.create(model=model, messages=asked)
        except openai.APIStatusError as error:
            return str(error.code)
    return str(done.choices[0].message.content)


def becomes(to: HeadraceUp, secret: str, answer: str, model: str = "echo") -> None:
    """Wait until a chat gets that: commands end once the broker has the change, not the ingress."""
    deadline = time.monotonic() + PATIENCE
    while (found := chat(to, secret, model)) != answer:
        assert time.monotonic() < deadline, found


TEXT = "hello there"


def test_a_key_from_its_making_to_its_end(running: HeadraceUp) -> None:
    first = made(running, "alice", "--account", "lab", "--requests", "600", "--note", "for tests")
    becomes(running, first, TEXT)
    rows = json.loads(key(running, "list", "--json").stdout)
    (alice,) = [row for row in rows if row["name"] == "alice"]
    assert (alice["account"], alice["limits"]["requests"], alice["source"]) == ("lab", 600, "store")
    others = [row["name"] for row in rows if row["source"] == "configuration"]
    assert others == ["fixed", "local"]

    done = key(running, "edit", "alice", "--model", "ot*", "--requests", "none", "--json")
    assert json.loads(done.stdout)["limits"]["requests"] is None
    becomes(running, first, "model_not_found")
    assert chat(running, first, "other") == TEXT
    with openai.OpenAI(base_url=running.url, api_key=first) as client:
        assert [model.id for model in client.models.list()] == ["other"]

    second = key(running, "rotate", "alice", "--grace", "1h").stdout.strip()
    becomes(running, second, TEXT, "other")
    assert chat(running, first, "other") == TEXT
    third = json.loads(key(running, "rotate", "alice", "--grace", "0", "--json").stdout)["secret"]
    becomes(running, second, "invalid_api_key", "other")
    assert chat(running, third, "other") == TEXT

    assert key(running, "revoke", "alice").stdout == "alice: revoked\n"
    becomes(running, third, "invalid_api_key", "other")
    assert "alice" not in key(running, "list").stdout
    assert "revoked" in key(running, "list", "--all").stdout


def test_what_a_key_may_not_is_said_with_a_code_of_its_own(running: HeadraceUp) -> None:
    narrow = made(running, "narrow", "--scope", "inference:/v1/embeddings")
    becomes(running, narrow, "insufficient_scope")
    brief = made(running, "brief", "--expires", "1s")
    becomes(running, brief, "key_expired")
    assert chat(running, brief[:-1] + ("a" if brief[-1] != "a" else "b")) == "mistyped_api_key"
    assert chat(running, "sk-nobody-0123456789") == "invalid_api_key"


def test_the_key_that_up_printed_stays_good(running: HeadraceUp) -> None:
    own = (running.data / "key").read_text().strip()
    assert own in running.text
    assert chat(running, own) == TEXT
    assert chat(running, "sk-fixed-0123456789abcdef") == TEXT


def test_keys_that_exist_already_are_taken_in_once(running: HeadraceUp) -> None:
    table = (
        "name,secret,account,scopes,requests\n"
        "bob,sk-bob-0123456789abcdef,lab,inference models:read,60\n"
        "carol,sk-carol-0123456789abc,,,\n"
    )
    assert key(running, "import", stdin=table).stdout == "2 keys taken in, 0 were there already\n"
    assert key(running, "import", stdin=table).stdout == "0 keys taken in, 2 were there already\n"
    becomes(running, "sk-bob-0123456789abcdef", TEXT)
    page = json.loads(key(running, "show", "bob", "--json").stdout)
    assert (page["account"], page["limits"]["requests"]) == ("lab", 60)
    rest = "dave,sk-dave-0123456789abcde\nerin,sk-bob-0123456789abcdef\n"
    refused = key(running, "import", stdin=rest)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "headrace: line 2: its secret is that of the key 'bob'\n"
    assert key(running, "show", "dave").returncode == 1, "all, or none"


def test_an_account_has_limits_of_its_own(running: HeadraceUp) -> None:
    key(running, "account", "lab", "--concurrent", "5", "--weight", "2")
    done = key(running, "account", "lab", "--tokens", "1000", "--json")
    (page,) = json.loads(done.stdout)
    limits = {name: value for name, value in page["limits"].items() if value is not None}
    assert (limits, page["weight"]) == ({"concurrent": 5, "tokens": 1000}, 2.0)
    assert "lab" in key(running, "account").stdout


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["create", "fixed"], "The configuration has a key 'fixed'"),
        (["create", "a/b"], "name: a name has printable characters"),
        (["create", "x", "--scope", "root"], "'root' is no scope"),
        (["create", "x", "--model", ""], "--model: it is empty"),
        (["create", "x", "--node", ""], "--node: it is empty; leave it out for all"),
        (["create", "x", "--scope", ""], "leave it out for the usual scopes"),
        (["create", "x", "--model", "", "--model", "a"], "--model: it is empty"),
        (["edit", "x", "--model", "", "--model", "a"], "an empty one stands alone"),
        (["create", "x", "--node", "gpu-1", "--lane", "b"], "single nodes have no such lane"),
        (["create", "x", "--expires", "soon"], "'soon' is neither 30d nor"),
        (["create", "x", "--requests", "0"], "limits.requests: "),
        (["create", "x", "--requests", "many"], "limits.requests: "),
        (["edit", "x"], "nothing is to be changed"),
        (["edit", "nobody", "--note", "x"], "There is no key 'nobody' in the store"),
        (["edit", "fixed", "--note", "x"], "the key 'fixed' is in the configuration"),
        (["rotate", "nobody", "--grace", "soon"], "grace: give seconds, or a span"),
        (["revoke", "nobody"], "There is no key 'nobody' in the store"),
        (["show", "nobody"], "there is no key 'nobody'"),
        (["import", "/nowhere"], "No such file"),
    ],
)
def test_what_makes_no_sense_ends_with_one_line(
    running: HeadraceUp, words: list[str], why: str
) -> None:
    done = key(running, *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("headrace: ")
    assert why in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_lines_of_the_readme_work_when_pasted(running: HeadraceUp, tmp_path: Path) -> None:
    """With the command, the address and the data directory of this test in their places."""
    section = (ROOT / "README.md").read_text().partition("## Give it to others")[2]
    lines = section.partition("```sh\n")[2].partition("```")[0]
    script = lines.replace(".venv/bin/headrace", HEADRACE[0])
    script = script.replace("http://127.0.0.1:8080/v1", running.url)
    done = subprocess.run(
        ["sh", "-e", "-c", script],
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE,
        env={**environment(), "HEADRACE_DATA": str(running.data)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"id":"echo"' in done.stdout
    assert "2 at once" in done.stdout
    assert done.stdout.endswith("alice: revoked\n")


def test_where_nothing_runs_that_is_said(tmp_path: Path) -> None:
    done = headrace("key", "list", "--data", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "nothing runs on" in done.stderr
