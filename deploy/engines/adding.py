"""``headrace engine add``: writes the table of an engine, and has workers take it."""

from __future__ import annotations

import asyncio
import difflib
import functools
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from deploy import configure
from deploy.configure import Where
from deploy.engines import config_file, found, machine, model_file, processes, starting
from deploy.engines.faults import BadInput
from deploy.engines.found import Found
from deploy.engines.starting import Made, Wish
from deploy.plan import own_command
from schemas import hosts
from schemas.settings import Engine, SettingsError
from workers.engines import KINDS

_LONGEST = 56
"""Letters of a name that is made: an engine's has 64, and a number may follow."""
_KEY_MOST = 4096
_FILES = (".gguf", ".bin", ".safetensors", ".ggml", ".ckpt", ".pt", ".sft")
_OLLAMA = {"command": ["ollama", "serve"], "env": {"OLLAMA_HOST": "127.0.0.1:{port}"}}


@dataclass(frozen=True, slots=True)
class Ask:
    """What was asked for. `target`: a URL, a file, a name, or "" for all that is found. `key`: the
    text of --key."""

    target: str
    wish: Wish
    kind: str = ""
    key: str = ""
    yes: bool = False


class Adding:
    """One run of the command."""

    def __init__(self, where: Where, ask: Ask, say: Callable[[str], None] = typer.echo) -> None:
        self._place = where.config or config_file.DEFAULT
        self._ask = ask
        self._wish = ask.wish
        self._say = say
        self._engines = self._configured()

    def _configured(self) -> list[Engine]:
        """Raises BadInput for settings that are wrong already."""
        try:
            return list(configure.read(self._place if self._place.exists() else None).engines)
        except SettingsError as fault:
            raise BadInput(f"mend the settings first: {fault}") from None

    async def run(self) -> None:
        """Raises BadInput or CommandFailed."""
        added = False
        try:
            for made in await self._made():
                added |= self._write(made)
        finally:  # what is in the file already is told, too, if the next one cannot be written
            if added:
                self._tell()

    async def _made(self) -> list[Made]:
        target = self._ask.target
        if self._ask.kind and self._ask.kind not in KINDS:
            raise BadInput(f"there is no kind {self._ask.kind!r}, but {', '.join(KINDS)}")
        if not target:
            return await self._all_found()
        if "://" in target:
            return [await self._by_url(target)]
        if (path := _file(target)) is not None:
            return [await asyncio.to_thread(self._by_file, path)]
        return await self._by_name(target)

    # What is to be written.

    async def _all_found(self) -> list[Made]:
        new = found.new(await found.look(), self._engines)
        if not new:
            raise BadInput(
                "nothing else runs here that is known: name the URL of an engine, or the file of a "
                "model"
            )
        return [self._running(each) for each in new]

    async def _by_url(self, url: str) -> Made:
        url = re.sub(r"(/v1)?/*$", "", url)
        if not re.match(r"https?://[^/\s?#]+[^\s?#]*$", url) or not hosts.is_web(url):
            raise BadInput(f"{self._ask.target!r} is no URL such as http://127.0.0.1:8081")
        self._apart(lambda engine: found.same(engine.url, url), url)
        answers = await found.ask(url, kind=self._ask.kind, key=self._key)
        if answers is None and self._ask.kind:
            answers = Found(url, self._ask.kind, fault="it does not answer now")
        if answers is None:
            raise BadInput(
                f"nothing that is known as an engine answers at {url}: start it, or say what it "
                "is, as with --kind openai"
            )
        return self._running(answers)

    def _running(self, each: Found) -> Made:
        """The table of an engine that runs. Raises BadInput."""
        wish = self._wish
        if wish.context or wish.projector or wish.program or wish.more or wish.layers is not None:
            raise BadInput(
                f"{each.url} runs already: only its --name, --models and --slots can be "
                "said here, all else where it is started"
            )
        kind = self._ask.kind or each.kind
        table: dict[str, Any] = {"name": wish.name or kind, "kind": kind, "url": each.url}
        table |= {"models": list(wish.models)} if wish.models else {}
        table |= {"slots": wish.slots} if wish.slots else {}
        if key := self._its_key(each):
            table["api_key"] = key
        models = each.fault or ", ".join(each.models)
        return Made(table, (models,) if models else ())

    @functools.cached_property
    def _key(self) -> str:
        """What --key means, read once, as standard input has it once. Raises BadInput."""
        return _key(self._ask.key)

    def _its_key(self, each: Found) -> str:
        if self._ask.key or not each.wants_key:
            return self._key
        if self._ask.yes or not sys.stdin.isatty():
            raise BadInput(f"{each.url} wants its key: --key @FILE, or --key - for standard input")
        return str(typer.prompt(f"The key of {each.url}", hide_input=True))

    def _by_file(self, path: Path) -> Made:
        file = model_file.read(path.absolute())
        if self._ask.kind not in ("", file.kind):
            raise BadInput(f"{path} is for {file.kind}, and not for {self._ask.kind}")
        if self._ask.key:
            raise BadInput("--key is for an engine that runs already")
        if not self._wish.name:
            where = _resolved(str(file.path))
            self._apart(
                lambda engine: _resolved(engine.file) == where,
                f"{path} (--name gives it another one, for two engines of it)",
            )
        served = [name for engine in self._engines for name in engine.models]
        return starting.table(file, machine.look(), self._wish, served)

    def _apart(self, same: Callable[[Engine], bool], what: str) -> None:
        """Raises BadInput if an engine of the settings is the same."""
        for engine in self._engines:
            if same(engine):
                raise BadInput(f"the engine {engine.name!r} is that already: {what}")

    async def _by_name(self, name: str) -> list[Made]:
        if name == "embedded":
            return [self._small_model()]
        running = await found.look()
        named = [each for each in running if name in (each.kind, each.program)]
        if new := found.new(named, self._engines):
            return [self._running(each) for each in new]
        if named:
            raise BadInput(f"{name} is in the settings already, at {named[0].url}")
        if name == "ollama" and "ollama" in machine.look().programs:
            wanted = {"name": self._wish.name or name, "kind": name, **_OLLAMA}
            return [Made(wanted, ("models are pulled with: ollama pull NAME",))]
        if name in KINDS or name in processes.PROGRAMS:
            raise BadInput(f"no {name} runs here: start it, or name its URL, or a model's file")
        known = [*KINDS, *processes.PROGRAMS, *(each.program for each in running)]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise BadInput(f"{name!r} is no file, no URL and no engine that runs here{hint}")

    def _small_model(self) -> Made:
        """The one that a worker starts where no engine is named. Raises SettingsError."""
        self._apart(lambda engine: engine.kind == "embedded" and not engine.file, "the small model")
        own = configure.quickstart()
        table = {"name": self._wish.name or own.name, "kind": own.kind}
        return Made(table, ("the small model that comes along",))

    # Writing it.

    def _write(self, made: Made) -> bool:
        """Whether the user wants it. Raises BadInput or CommandFailed."""
        made = replace(made, table={**made.table, "name": self._named(made.table["name"])})
        text = config_file.text(made.table, made.notes)
        self._say(_hidden(text, made.table.get("api_key", "")))
        if not self._ask.yes:
            if not sys.stdin.isatty():
                raise BadInput(f"nothing is written without a word: say --yes for {self._place}")
            if not typer.confirm(f"Write this to {self._place}?", default=True):
                return False
        config_file.append(self._place, text)
        self._engines.append(Engine.model_validate(made.table))
        self._say(f"added {made.table['name']!r} to {self._place}")
        if "api_key" in made.table and self._place.stat().st_mode & 0o077:
            self._say(f"others can read the key in it: chmod 600 {self._place}")
        return True

    def _named(self, wanted: str) -> str:
        """A name that no other engine has. Raises BadInput for one that the user chose."""
        taken = {engine.name for engine in self._engines}
        if self._wish.name:
            if wanted in taken:
                why = f"there is an engine {wanted!r} already: give this one another --name"
                raise BadInput(why)
            return wanted
        base = wanted[:_LONGEST]
        numbered = (f"{base}-{number}" for number in range(2, len(taken) + 3))
        return next(name for name in (base, *numbered) if name not in taken)

    # Those that run.

    def _tell(self) -> None:
        """Have the workers that run with this file take it, or say what is to be done."""
        known = processes.own()
        if "HEADRACE_ENGINES" in os.environ:
            self._say("HEADRACE_ENGINES in the environment goes before the file: unset it")
        workers = processes.workers(self._place, known)
        for each in workers:
            if each.names_engines:
                self._say(
                    f"the worker {each.pid} was started with --engine, which goes before the "
                    "file: start it again without"
                )
            elif each.takes_hangup:
                os.kill(each.pid, signal.SIGHUP)
                self._say(f"the worker {each.pid} takes it now: see 'headrace engine list'")
            else:
                self._say(f"start the worker {each.pid} again: it does not read settings anew")
        if not workers:
            runs = any(each.role == "worker" for each in known.values())
            again = "a worker runs without this file; start it again: " if runs else "start it: "
            command = [*own_command(), "up", "--config", str(self._place)]
            self._say(f"{again}{shlex.join(command)}")


def _file(target: str) -> Path | None:
    """The file that is meant; None for a name."""
    path = Path(target).expanduser()
    named = os.sep in target or path.suffix.lower() in _FILES
    return path if named or path.exists() else None


def _resolved(file: str) -> str:
    return os.path.realpath(Path(file).expanduser()) if file else ""


def _hidden(text: str, key: str) -> str:
    return text.replace(configure.toml(key), configure.toml(configure.MASK)) if key else text


def _key(said: str) -> str:
    """What `--key` means: `-` is standard input, `@FILE` a file. Raises BadInput."""
    if not said:
        return ""
    if said == "-":
        found_ = sys.stdin.readline(_KEY_MOST)
    elif said.startswith("@"):
        try:
            with open(said[1:], errors="replace") as file:
                found_ = file.read(_KEY_MOST)
        except OSError as fault:
            raise BadInput(f"--key {said}: {fault.strerror}") from None
    else:
        raise BadInput("others can read what stands in a command: --key @FILE, or --key -")
    if not found_.strip():
        raise BadInput(f"--key {said}: there is no key")
    return found_.strip()


def words(names: Sequence[str]) -> tuple[str, ...]:
    """All names of a comma-separated option."""
    return tuple(name.strip() for text in names for name in text.split(",") if name.strip())
