"""All sections together, and their sources: the file, then the environment, then flags."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import SettingsError as SourceError

from schemas.settings.alerts import Alerts
from schemas.settings.base import ENV_PREFIX, NESTED, SettingsError
from schemas.settings.cache import Cache
from schemas.settings.cloud import Fallback, Price, Provider, Route, Routes
from schemas.settings.console import Console
from schemas.settings.engine import Engine, apart
from schemas.settings.kubernetes import service_variables
from schemas.settings.otel import Otel
from schemas.settings.sections import Ingress, Jobs, Key, Log, Login, Nats, Worker
from schemas.settings.share import Share

FLAGS = ("config", "data", "join")
"""Flags of the command line that the environment may also set, though they are no settings."""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter=NESTED, extra="forbid", frozen=True
    )

    nats: Nats = Nats()
    share: Share = Share()
    ingress: Ingress = Ingress()
    jobs: Jobs = Jobs()
    cache: Cache = Cache()
    worker: Worker = Worker()
    engines: list[Engine] = []
    keys: list[Key] = []
    routes: Routes = Routes()
    route: list[Route] = []
    providers: list[Provider] = []
    prices: list[Price] = []
    fallback: Fallback = Fallback()
    ledger: Login = Login()
    vault: Login = Login()
    alerts: Alerts = Alerts()
    console: Console = Console()
    log: Log = Log()
    otel: Otel = Otel()

    @model_validator(mode="after")
    def _keys_apart(self) -> Settings:
        names = [key.name for key in self.keys]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two tables [[keys]] have the name {twice[0]!r}: give each its own")
        by_secret: dict[str, str] = {}
        for key in self.keys:
            other = by_secret.setdefault(key.secret.get_secret_value(), key.name)
            if other != key.name:
                raise ValueError(f"the keys {other!r} and {key.name!r} have the same secret")
        return self

    @field_validator("engines")
    @classmethod
    def _engines_apart(cls, value: list[Engine]) -> list[Engine]:
        apart(each.name for each in value)
        return value

    @model_validator(mode="after")
    def _providers_known(self) -> Settings:
        known = {provider.name for provider in self.providers}
        for route in self.route:
            for name, _ in route.provider_models:
                if name not in known:
                    raise ValueError(
                        f"the route {route.name!r} names the provider {name!r}, which has no table "
                        f"[[providers]]; there are: {', '.join(sorted(known)) or 'none'}"
                    )
        return self


def load(path: Path | None = None, flags: Mapping[str, Any] | None = None) -> Settings:
    """Read the file; the environment overrides the file, and flags override both.

    `flags` is a nested mapping; a value of None means that the flag was not given. Raises
    SettingsError with one line for each fault.
    """

    # pydantic-settings asks the class for its sources, so each path needs a class of its own.
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
            # The first one that has a setting counts.
            return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, path)

    if path is not None and not path.is_file():
        raise SettingsError(f"{path}: {'no file' if path.exists() else 'no such file'}")
    faults = _unknown_environment()  # told together with the faults of the values
    try:
        found = Sourced(**_given(flags or {}))
    except ValidationError as fault:
        raise SettingsError("\n".join([*faults, *_explain(fault)])) from None
    except (SourceError, tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as fault:
        where = "environment" if isinstance(fault, SourceError) else path
        raise SettingsError("\n".join([*faults, f"{where}: {fault}"])) from None
    if faults:
        raise SettingsError("\n".join(faults))
    return found


def outside() -> dict[str, str]:
    """This process's environment for a foreign program, or for one that reads data of strangers:
    without our own variables, which may hold secrets."""
    return {k: v for k, v in os.environ.items() if not k.startswith(ENV_PREFIX)}


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """`flags` without those that were not given."""
    nested = {k: _given(v) if isinstance(v, Mapping) else v for k, v in flags.items()}
    return {k: v for k, v in nested.items() if v is not None and v != {}}


def passed_over() -> list[str]:
    """Names in the environment that begin as settings do, and which Kubernetes has set."""
    return service_variables(os.environ)


def _unknown_environment() -> list[str]:
    """Find variables of unknown sections, because pydantic-settings ignores them."""
    foreign = set(passed_over())
    known = {*Settings.model_fields, *FLAGS}
    names = [name for name in sorted(os.environ) if name.startswith(ENV_PREFIX)]
    own = [name for name in names if name not in foreign]
    return [_unknown_name(name) for name in own if _path(name)[0] not in known]


def _path(name: str) -> list[str]:
    """Where in the settings a variable leads."""
    return name.removeprefix(ENV_PREFIX).lower().split(NESTED)


def _unknown_name(name: str) -> str:
    """Names the nearest variable. One underscore in place of two is the commonest mistake."""
    known = [*map(_variable, FLAGS), *map(_variable, Settings.model_fields)]
    for section, field in Settings.model_fields.items():
        if isinstance(field.annotation, type):  # a list of sections is one variable, in JSON
            known += [_variable(section, each) for each in _known((section,))]
    flat = {each.replace(NESTED, "_"): each for each in known}
    near = difflib.get_close_matches(name.replace(NESTED, "_"), flat, n=1)
    return f"{name}: unknown setting" + (f"; did you mean {flat[near[0]]!r}?" if near else "")


def _variable(*path: str) -> str:
    return ENV_PREFIX + NESTED.join(path).upper()


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
            said = error["msg"].removeprefix("Value error, ")  # pydantic puts that before ours
            lines.append(f"{where}: {said}" if where else said)
    return lines


def _known(loc: Sequence[int | str]) -> list[str]:
    """Names of the settings beside the one at `loc`."""
    model: type[BaseModel] = Settings
    for step in loc:
        if isinstance(step, str):  # a number is the place in a list of sections
            model = section_of(model, step)
    return list(model.model_fields)


def section_of(model: type[BaseModel], name: str) -> type[BaseModel]:
    """The class of the section `name` of `model`, also if the setting is a list of sections."""
    kind = model.model_fields[name].annotation
    for candidate in (kind, *getattr(kind, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return model
