"""Every setting of every process: one TOML file, then the environment, then flags.

The file is documented in `deploy/config.example.toml`; a test holds that page to these classes.
Environment: ``HEADRACE_`` + the path joined by ``__`` (``HEADRACE_INGRESS__PORT=8080``).
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import (
    SettingsError as SourceError,
)

from schemas.placeholders import words

ENV_PREFIX = "HEADRACE_"
FLAGS = ("config", "data")
"""Flags of the command line that the environment may hold, though they are no settings."""
Seconds = Annotated[float, Field(gt=0, le=86_400)]
PLACEHOLDERS = ("file", "port")
"""What an engine's command and environment may have in braces."""


class SettingsError(ValueError):
    """The configuration cannot be used; the message says which key and what would be right."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Nats(Section):
    """How to reach the broker."""

    url: str = "nats://127.0.0.1:4222"
    user: str = ""
    password: SecretStr = SecretStr("")
    replicas: int = Field(1, ge=1, le=5)
    sync_always: bool = False


class Ingress(Section):
    """The HTTP edge."""

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65_535)
    max_body: int = Field(32 * 2**20, ge=1024, le=2**30)
    max_head: int = Field(64 * 2**10, ge=4096, le=2**20)
    inline_body: int = Field(256 * 2**10, ge=0, le=2**20)
    keepalive: Seconds = 5.0
    silence: Seconds = 3.0
    grace: Annotated[float, Field(ge=0, le=5)] = 0.15
    drain: Seconds = 20.0
    max_buffer: int = Field(8 * 2**20, ge=2**16, le=2**30)
    public_url: str = Field("", pattern="^(https?://[^/?#@]+[^?#]*)?$")
    fetch_size: int = Field(20 * 2**20, ge=0, le=2**30)
    fetch_timeout: Seconds = 10.0
    fetch_private: bool = False
    fetch_ports: list[Annotated[int, Field(ge=1, le=65_535)]] = [80, 443]
    max_pixels: int = Field(50_000_000, ge=4096, le=2**31)
    picture_store: int = Field(64 * 2**20, ge=2**20, le=2**34)
    picture_age: Seconds = 600.0


class Jobs(Section):
    """The queue."""

    queue_depth: int = Field(1000, ge=1, le=1_000_000)
    max_attempts: int = Field(3, ge=1, le=20)
    ack_wait: Annotated[float, Field(ge=1, le=60)] = 3.0
    dead_age: Seconds = 86_400.0


class Worker(Section):
    """The pull side."""

    node: str = Field("", max_length=64)
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(0, ge=-1, le=65_535)
    pull_expires: Annotated[float, Field(ge=0.5, le=30)] = 2.0
    stall: Seconds = 15.0
    drain: Seconds = 30.0
    ring: int = Field(2 * 2**20, ge=2**16, le=2**30)


class Engine(Section):
    """One engine that a worker serves: it runs at `url`, as in ``--engine NAME=URL``, or the worker
    starts it: by `command`, or as the built-in one of the kind ``embedded``.

    Which kinds there are is known to `workers.engines` alone.
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
        """The first of the settings that was set to anything but its default; "" if none was."""
        defaults = type(self).model_fields
        return next((name for name in names if getattr(self, name) != defaults[name].default), "")


class Key(Section):
    """One API key."""

    name: str = Field(min_length=1, max_length=64)
    account: str = Field("default", min_length=1, max_length=64)
    secret: SecretStr
    local: bool = False
    admin: bool = False

    @field_validator("secret")
    @classmethod
    def _long_enough(cls, value: SecretStr) -> SecretStr:
        if len(value.get_secret_value()) < 16:
            raise ValueError("a key's secret needs at least 16 characters")
        return value


Money = Annotated[Decimal, Field(ge=0, le=1_000_000, decimal_places=6)]


class Route(Section):
    """What a model name that clients use leads to: a served model, providers, or both.

    `providers`: ``provider/model`` in the order in which they are tried.
    """

    name: str = Field(min_length=1, max_length=256)
    model: str = Field("", max_length=256)
    claim: Annotated[float, Field(ge=0, le=3600)] | None = None
    first_token: Seconds | None = None
    total: Seconds | None = None
    providers: list[Annotated[str, Field(pattern="^[^/]+/.+$")]] = []
    local_only: bool = False
    max_price: Money = Decimal(0)
    hedge_after: Annotated[float, Field(ge=0, le=3600)] = 0.0
    unpaid: Literal["refuse", "wait"] = "refuse"

    @property
    def served(self) -> str:
        """The model that jobs of this route are for."""
        return self.model or self.name

    @property
    def cloud(self) -> bool:
        """Whether its jobs may leave the house."""
        return bool(self.providers) and not self.local_only


class Routes(Section):
    """Deadlines of every route, unless the route says otherwise."""

    default: str = ""
    claim: Annotated[float, Field(ge=0, le=3600)] = 2.0
    first_token: Seconds = 300.0
    total: Seconds = 600.0


class Provider(Section):
    """A paid cloud API. `url` "" is that of its kind; the key is read from the environment variable
    `key_env` or the file `key_file` by the fallback alone."""

    name: str = Field(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    kind: Literal["openai", "google", "cloudflare", "anthropic", "compatible"] = "compatible"
    url: str = Field("", pattern="^(https?://[^/?#@]+[^?#]*)?$")
    key_env: str = ""
    key_file: str = ""
    account_id: str = ""
    concurrency: int = Field(16, ge=1, le=1024)
    connect_timeout: Seconds = 5.0
    silence: Seconds = 180.0

    @model_validator(mode="after")
    def _whole(self) -> Provider:
        if self.kind == "compatible" and not self.url:
            raise ValueError("a compatible provider needs its url")
        if self.kind == "cloudflare" and not self.url and not self.account_id:
            raise ValueError("cloudflare needs the account_id")
        if self.key_env and self.key_file:
            raise ValueError("a provider's key is in key_env or in key_file, not in both")
        return self


class Price(Section):
    """What a provider takes for a model, in `fallback.currency`. Goes before the built-in list."""

    provider: str = Field(min_length=1, max_length=64)
    model: str = Field(min_length=1, max_length=256)
    date: str = Field("", pattern="^([0-9]{4}-[0-9]{2}-[0-9]{2})?$")
    input: Money | None = None
    cached_input: Money | None = None
    output: Money | None = None
    image: Money | None = None
    images: dict[str, Money] = {}
    minute: Money | None = None
    characters: Money | None = None


class Fallback(Section):
    """The cloud side: takes jobs that no worker takes in time to the providers."""

    enabled: bool = True
    currency: str = Field("USD", pattern="^[A-Z]{3}$")
    slots: int = Field(64, ge=1, le=4096)
    breaker_failures: int = Field(5, ge=1, le=1000)
    breaker_open: Seconds = 10.0
    sweep: Annotated[float, Field(ge=1, le=3600)] = 10.0
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(0, ge=-1, le=65_535)


class Ledger(Section):
    """The broker's account with the credits, which the fallback and `headrace credits` use."""

    url: str = ""
    user: str = ""
    password: SecretStr = SecretStr("")


class Log(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"
    prompts: bool = False


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    nats: Nats = Nats()
    ingress: Ingress = Ingress()
    jobs: Jobs = Jobs()
    worker: Worker = Worker()
    engines: list[Engine] = []
    keys: list[Key] = []
    routes: Routes = Routes()
    route: list[Route] = []
    providers: list[Provider] = []
    prices: list[Price] = []
    fallback: Fallback = Fallback()
    ledger: Ledger = Ledger()
    log: Log = Log()

    @model_validator(mode="after")
    def _providers_known(self) -> Settings:
        known = {provider.name for provider in self.providers}
        for route in self.route:
            for each in route.providers:
                name = each.partition("/")[0]
                if name not in known:
                    raise ValueError(
                        f"the route {route.name!r} names the provider {name!r}, which has no table "
                        f"[[providers]]; there are: {', '.join(sorted(known)) or 'none'}"
                    )
        return self


def load(path: Path | None = None, flags: Mapping[str, Any] | None = None) -> Settings:
    """Read the file, lay the environment over it and the flags over both.

    `flags` is a nested mapping; None values are flags that were not given.
    Raises SettingsError with one line for each fault.
    """

    class Sourced(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, path)

    if path is not None and not path.is_file():
        raise SettingsError(f"{path}: no such file")
    faults = _unknown_environment()
    try:
        found = Sourced(**_given(flags or {}))
    except ValidationError as fault:
        raise SettingsError("\n".join([*faults, *_explain(fault)])) from None
    except (SourceError, tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as fault:
        raise SettingsError("\n".join([*faults, f"{path or 'environment'}: {fault}"])) from None
    if faults:
        raise SettingsError("\n".join(faults))
    return found


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """`flags` without those that were not given."""
    nested = {k: _given(v) if isinstance(v, Mapping) else v for k, v in flags.items()}
    return {k: v for k, v in nested.items() if v is not None and v != {}}


def _unknown_environment() -> list[str]:
    """pydantic-settings passes over variables whose section it does not know."""
    known = [*Settings.model_fields, *FLAGS]
    sections = {
        name: name.removeprefix(ENV_PREFIX).lower().partition("__")[0]
        for name in sorted(os.environ)
        if name.startswith(ENV_PREFIX)
    }
    return [_unknown(name, each, known) for name, each in sections.items() if each not in known]


def _unknown(where: str, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"{where}: unknown setting" + (f"; did you mean {near[0]!r}?" if near else "")


def _explain(fault: ValidationError) -> list[str]:
    lines = []
    for error in fault.errors(include_url=False, include_input=False):
        where = ".".join(str(step) for step in error["loc"])
        if error["type"] == "extra_forbidden":
            lines.append(_unknown(where, str(error["loc"][-1]), _known(error["loc"][:-1])))
        else:
            lines.append(f"{where}: {error['msg']}")
    return lines


def _known(loc: tuple[int | str, ...]) -> list[str]:
    """Names of the settings beside the one at `loc`."""
    model: type[BaseModel] = Settings
    for step in loc:
        if isinstance(step, int):
            continue
        model = section_of(model, step)
    return list(model.model_fields)


def section_of(model: type[BaseModel], name: str) -> type[BaseModel]:
    """The class of the section `name` of `model`, also where it is a list of sections."""
    kind = model.model_fields[name].annotation
    for candidate in (kind, *getattr(kind, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return model
