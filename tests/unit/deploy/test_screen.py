"""What `headrace up` prints can be pasted, whatever the terminal."""

from __future__ import annotations

import io
import json
import shlex
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from deploy.console.library import INSTALL
from deploy.plan import Plan
from deploy.screen import Screen, SteadyConsole, curl, python
from schemas.nodes import Card, ServedModel
from schemas.settings import Console as ConsoleSettings
from schemas.settings import Settings

KEY = "sk-headrace-0123456789abcdef"
CARD = Card("h", "n", "s", 1, "1", models=(ServedModel("it's a/model:7b", "e", "llamacpp", 4),))


def plan(moved_from: int = 0) -> Plan:
    return Plan(
        settings=Settings(),
        data=Path("/data"),
        config=None,
        engines=(),
        node=None,
        log_level=None,
        port=8080,
        moved_from=moved_from,
        key=KEY,
        verbose=False,
    )


def shown(
    card: Card | None, *, made: Plan | None = None, width: int = 40, link: str = ""
) -> list[str]:
    out = io.StringIO()
    Screen(Console(file=out, width=width)).welcome(made or plan(), card, link=link)
    return out.getvalue().splitlines()


def test_curl_is_one_line_that_a_shell_understands() -> None:
    models = [model.id for model in CARD.models]
    line = curl(plan(), models)
    assert line in shown(CARD)
    words = shlex.split(line)
    assert words[:3] == ["curl", "-N", "http://127.0.0.1:8080/v1/chat/completions"]
    assert f"Authorization: Bearer {KEY}" in words
    body = json.loads(words[-1])
    assert (body["model"], body["stream"]) == (models[0], True)


def test_without_a_model_the_default_route_is_asked() -> None:
    assert "model" not in json.loads(shlex.split(curl(plan(), []))[-1])
    assert any("no engine is ready" in line for line in shown(None))


def test_python_is_three_lines_that_compile() -> None:
    models = [model.id for model in CARD.models]
    lines = python(plan(), models)
    assert len(lines) == 3
    assert compile("\n".join(lines), "pasted", "exec")
    assert all(line in shown(CARD) for line in lines)


def test_the_link_to_the_console_is_one_line() -> None:
    link = "http://127.0.0.1:8480/in/Le7E8jv2-bwE0pe4eQcH2w"
    made = replace(plan(), console_port=8480)
    assert f"Console: {link} (works once, 10 minutes)" in shown(CARD, made=made, link=link)


def test_without_its_library_the_console_is_said_to_be_missing() -> None:
    assert INSTALL in shown(CARD)
    off = Settings(console=ConsoleSettings(enabled=False))
    assert INSTALL not in shown(CARD, made=replace(plan(), settings=off))


def test_a_port_that_was_taken_is_told() -> None:
    assert any("port 1234 is taken" in line for line in shown(CARD, made=plan(moved_from=1234)))
    assert not any("taken" in line for line in shown(CARD))


def test_with_the_small_model_alone_it_says_how_to_have_others() -> None:
    lines = shown(CARD)
    at = lines.index("Your own engines and models:")
    assert lines[at + 1].endswith(" engine list --data /data")
    own = replace(plan(), engines=("gpu=http://127.0.0.1:8081",))
    assert "Your own engines and models:" not in shown(CARD, made=own)


def test_logs_are_shown_for_reading() -> None:
    out = io.StringIO()
    screen = Screen(Console(file=out, width=40))
    screen.log("worker", '{"engine":"a [b]","event":"engine.ready","level":"info","timestamp":"x"}')
    screen.log("worker", '{"event":"bus.disconnected","level":"warning","timestamp":"x"}')
    screen.log("ingress", "Traceback (most recent call last):")
    screen.log("ingress", "[1]")
    assert out.getvalue().splitlines() == [
        "worker   engine a [b] is ready",
        "worker   warning: lost the broker; it is tried again until it is there",
        "ingress  Traceback (most recent call last):",
        "ingress  [1]",
    ]


def test_a_terminal_that_is_gone_stops_nothing() -> None:
    class Gone(io.StringIO):
        wrote = 0

        def write(self, _: str) -> int:
            self.wrote += 1
            raise BrokenPipeError

    out = Gone()
    screen = Screen(SteadyConsole(file=out))
    for _ in range(3):
        screen.note("hello")
    assert out.wrote == 1


def test_waiting_says_nothing_where_nobody_looks() -> None:
    out = io.StringIO()
    with Screen(Console(file=out)).waiting("starting") as say:
        say("starting: worker")
    assert out.getvalue() == ""
    terminal = io.StringIO()
    with Screen(Console(file=terminal, force_terminal=True)).waiting("starting") as say:
        say("starting: worker")
    assert "starting: worker …" in terminal.getvalue()
