"""What ``headrace up`` prints in the terminal. If the terminal goes away, `up` runs on."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.text import Text

from deploy.console.library import INSTALL
from deploy.plan import Plan
from schemas import log_lines
from schemas.api import endpoints
from schemas.nodes import Card

BROKER_PORT = 4222
_COLOURS = {"ingress": "cyan", "worker": "magenta", "fallback": "blue", "console": "green"}


class SteadyConsole(Console):
    """Prints nothing once nobody reads it any more; rich itself would end the process."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        with contextlib.suppress(OSError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), self.file.fileno())  # for the flush at the end


class Screen:
    def __init__(self, console: Console | None = None) -> None:
        self._console = console or SteadyConsole(highlight=False)

    def _print(self, text: str | Text = "", style: str = "") -> None:
        """Print one line that is never wrapped, so that it can be copied."""
        with contextlib.suppress(OSError):
            self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    @contextlib.contextmanager
    def waiting(self, text: str) -> Iterator[Callable[[str], None]]:
        """Show a spinner while the block runs; yields a function that changes its text."""
        if not self._console.is_terminal:
            yield lambda _: None
            return
        with self._console.status(f"{text} …") as status:
            yield lambda new: status.update(f"{new} …")

    def note(self, text: str) -> None:
        self._print(text, "green")

    def warn(self, text: str) -> None:
        self._print(text, "yellow")

    def log(self, process: str, line: str) -> None:
        self._print(Text.assemble((f"{process:8}", _COLOURS.get(process, "")), " ", _plain(line)))

    def broker(self, url: str, store: Path) -> None:
        self._print(f"broker   {url}, store {store}", "dim")
        if url.startswith("nats:") and not url.endswith(f":{BROKER_PORT}"):
            self._print(f"         port {BROKER_PORT} is taken, so another one is used", "yellow")

    def welcome(
        self, plan: Plan, card: Card | None, addresses: Sequence[str] = (), link: str = ""
    ) -> None:
        """`addresses`: how other machines reach the broker; `link`: to the console."""
        models = [model.id for model in card.models] if card else []
        self._print(f"ingress  {plan.url}, logs {plan.data / 'logs'}", "dim")
        if plan.moved_from:
            self._print(
                f"         port {plan.moved_from} is taken, so another one is used", "yellow"
            )
        self._print()
        self._print("Headrace is up.", "bold green")
        self._fact("base URL", f"{plan.url}/v1")
        self._fact("key", plan.key)
        self._fact("model", ", ".join(models) or "none yet: no engine is ready")
        if link:
            self._print()
            self._print(f"Console: {link} (works once, 10 minutes)", "bold")
        elif plan.settings.console.enabled and not plan.console_port:
            self._recipe("Pages for a browser need NiceGUI, which is not installed:", INSTALL)
        self._recipe("Stream a chat:", curl(plan, models))
        self._recipe("Or in Python (pip install openai):", *python(plan, models))
        if not plan.engines and not plan.settings.engines:
            self._recipe("Your own engines and models:", plan.command("engine", "list"))
        self._recipe("A second worker, in another terminal:", plan.command("worker"))
        if addresses:
            self.shared(addresses, plan.command("node", "invite", "NAME"))
        self._recipe("Who is here, and what waits:", plan.command("status") + " --watch")
        self._print()
        self._print("Ctrl-C stops everything.", "dim")

    def shared(self, addresses: Sequence[str], command: str) -> None:
        """How another machine joins."""
        self._recipe(f"Another machine, by a line that this prints ({addresses[0]}):", command)

    def _fact(self, name: str, value: str) -> None:
        self._print(Text.assemble((f"  {name:9} ", "dim"), (value, "bold")))

    def _recipe(self, title: str, *lines: str) -> None:
        self._print()
        self._print(title, "bold")
        for line in lines:
            self._print(line)


def curl(plan: Plan, models: list[str]) -> str:
    """A shell command that streams a chat, by the default route if there is no model."""
    body: dict[str, Any] = {"model": models[0]} if models else {}
    body |= {"messages": [{"role": "user", "content": "Why is the sky blue?"}], "stream": True}
    return (
        f"curl -N {shlex.quote(plan.url + endpoints.CHAT.path)} "
        f"-H 'Authorization: Bearer {plan.key}' -H 'Content-Type: application/json' "
        f"-d {shlex.quote(orjson.dumps(body).decode())}"
    )


def python(plan: Plan, models: list[str]) -> list[str]:
    """Three lines with OpenAI's own client."""
    model = orjson.dumps(models[0] if models else "").decode()
    ask = f'model={model}, messages=[{{"role": "user", "content": "Why is the sky blue?"}}]'
    return [
        "from openai import OpenAI",
        f'client = OpenAI(base_url="{plan.url}/v1", api_key="{plan.key}")',
        f"print(client.chat.completions.create({ask}).choices[0].message.content)",
    ]


def _plain(line: str) -> str:
    """A JSON log line in words; anything else as it is."""
    try:
        found: dict[str, Any] = orjson.loads(line)
        _, level = found["event"], found["level"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return line
    return f"{level}: {log_lines.line(found)}" if level != "info" else log_lines.line(found)
