"""Settings of an engine that runs already, or that the worker starts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Annotated

from pydantic import Field, SecretStr, model_validator

from schemas.placeholders import words
from schemas.settings.base import Seconds, Section

_ADDRESS = re.compile(r"https?://[^/?#\s]+[^?#\s]*\Z")
PLACEHOLDERS = ("file", "port")
"""Words in braces that an engine's command and environment may have."""


def apart(names: Iterable[str]) -> None:
    """Raises ValueError if two engines of one worker have the same name: status, metrics and logs
    know them by it."""
    counted = Counter(names)
    if twice := [name for name, times in counted.items() if times > 1]:
        raise ValueError(
            f"{counted[twice[0]]} engines have the name {twice[0]!r}: give each its own, as in "
            f"--engine llamacpp:{twice[0]}-2=http://…, or in its table [[engines]]"
        )


class Engine(Section):
    """One engine that a worker serves. Either it runs at `url`, as in ``--engine NAME=URL``, or the
    worker starts it with `command`, or it is the built-in engine of kind ``embedded``.

    `kind` is a plain text here, because only `workers.engines` knows the kinds.
    """

    name: str = Field(min_length=1, max_length=64)
    kind: str = "llamacpp"
    url: str = ""
    command: list[str] = []
    file: str = ""
    port: int = Field(0, ge=0, le=65_535)
    env: dict[Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$")], SecretStr] = {}
    ready_within: Seconds = 600.0
    context: int = Field(8192, ge=256, le=2**24)
    models: list[str] = []
    digest: str = Field("", max_length=256)
    slots: int = Field(0, ge=0, le=1024)
    priority: int = Field(0, ge=0, le=8)
    api_key: SecretStr = SecretStr("")

    @model_validator(mode="after")
    def _somewhere(self) -> Engine:
        if self.kind == "embedded" and (self.url or self.command):
            raise ValueError("an embedded engine is started here and has no url and no command")
        if self.kind == "echo" and self.command:
            raise ValueError("an echo engine is a part of the worker and has no command")
        if self.url and self.command:
            raise ValueError("either the url of an engine that runs, or the command to start it")
        if self.kind != "embedded" and not self.url and not self.command:
            raise ValueError(f"a {self.kind} engine needs the url it answers at, or a command")
        if self.url and self.kind != "echo" and not _ADDRESS.match(self.url):
            raise ValueError(f"the url {self.url!r} is none such as http://127.0.0.1:8081")
        # A setting that does nothing is a mistake, and told of like any other.
        if self.url and (unused := self._given("file", "port", "env", "ready_within")):
            raise ValueError(f"{unused} is only for an engine that the worker starts")
        return self

    @model_validator(mode="after")
    def _startable(self) -> Engine:
        if not self.command:
            return self
        if not self.command[0].strip():
            raise ValueError("the command begins with the program, which is empty here")
        texts = [*self.command, *(value.get_secret_value() for value in self.env.values())]
        if any("\0" in text for text in texts):
            raise ValueError("neither command nor env may hold a NUL character")
        used = words(texts)
        if strange := sorted(used - set(PLACEHOLDERS)):
            known = " and ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            raise ValueError(f"the command has {{{strange[0]}}}, but only {known} are filled in")
        if "port" not in used and not self.port:
            raise ValueError("the command needs {port} to be told its port, or set the port it has")
        if ("file" in used) != bool(self.file):
            missing = "no file is set" if "file" in used else "the command has no {file}"
            raise ValueError(f"the command and the setting file go together: {missing}")
        return self

    def _given(self, *names: str) -> str:
        """The first of these settings that differs from its default; "" if none does."""
        defaults = type(self).model_fields
        return next((name for name in names if getattr(self, name) != defaults[name].default), "")
