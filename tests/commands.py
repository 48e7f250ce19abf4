"""What `headrace` takes on its command line, without running it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer.main

from deploy.cli import app


def taken(words: Sequence[str]) -> None:
    """Fails for what it does not take: `words` are a command, with those under it, and options."""
    command: Any = typer.main.get_command(app)
    names = list(words)
    while hasattr(command, "commands"):
        command = command.commands[names.pop(0)]
    command.make_context(words[0], names)
