"""Turns flags, environment and file into the settings of one process."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import SecretStr

from deploy import home
from schemas.settings import Engine, Key, Nats, Settings, SettingsError, load

MASK = "********"
_LOGIN = re.compile(r"//[^/@\s]*@")


class Local(Nats):
    """The broker that `headrace up` runs on `data`. Its port may be another after each start."""

    data: Path
    role: str

    def now(self) -> Nats:
        try:
            found = home.login(self.data, self.user or self.role)
        except (SettingsError, KeyError):  # what was known before may still lead to the broker
            found = None
        return self.model_validate({**self.model_dump(), **found}) if found else self


class CommandFailed(Exception):
    """A command cannot do what it was asked to; the message says why, and what to do."""


class Unreachable(CommandFailed):
    """Nothing runs, or the broker cannot be reached; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Where:
    """How a command finds its settings and its broker: this machine's `data` directory, the
    `config` file, and `nats`, the text of --nats."""

    data: Path
    config: Path | None = None
    nats: str | None = None

    def settings(self, flags: Mapping[str, Any] | None = None) -> Settings:
        """Raises SettingsError."""
        named = {"nats": split_login(self.nats)} if self.nats is not None else {}
        return load(self.config, {**(flags or {}), **named})

    def admin(self) -> Nats:
        """How to reach the broker as its administrator: as the settings say, else the broker that
        runs on `data`. Raises SettingsError, or Unreachable if there is none."""
        nats = self.settings().nats
        return nats if "url" in nats.model_fields_set else self.local("admin")

    def local(self, role: str) -> Nats:
        """How to reach the broker that runs on `data`. Raises SettingsError or Unreachable."""
        if found := home.login(self.data, role):
            return Nats.model_validate(found)
        start = "start it with 'headrace up', or name --nats"
        raise Unreachable(f"nothing runs on {self.data}: {start}")


def resolve(role: str, where: Where, flags: Mapping[str, Any]) -> Settings:
    """Settings for a process of `role`. If they name no broker, it is the one that runs on this
    machine. Raises SettingsError."""
    settings = where.settings(flags)
    if role == "worker":
        _check_engines(settings)
    # Whoever names a broker means that one, also at the default address.
    if "url" not in settings.nats.model_fields_set:
        own = {"nats": home.login(where.data, role) or {}}
        if own["nats"] and role == "fallback" and not settings.ledger.user:
            own["ledger"] = home.login(where.data, "ledger") or {}
        settings = where.settings({**flags, **own})
        # `Local` looks the address up again before each connection.
        local = {**settings.nats.model_dump(), "data": where.data, "role": role}
        settings = settings.model_copy(update={"nats": Local.model_validate(local)})
    if role == "ingress" and not settings.keys:
        key = Key(name="local", account="local", secret=SecretStr(home.own_key(where.data)))
        return settings.model_copy(update={"keys": [key]})
    if role == "fallback" and not any(route.cloud for route in settings.route):
        raise SettingsError("no [[route]] names providers: there is nothing for a fallback to do")
    if role == "worker" and not settings.engines:
        return settings.model_copy(update={"engines": [quickstart()]})
    return settings


def read(config: Path | None, flags: Mapping[str, Any] | None = None) -> Settings:
    """The settings. Raises SettingsError, also for an engine of an unknown kind."""
    settings = load(config, flags)
    _check_engines(settings)
    return settings


def _check_engines(settings: Settings) -> None:
    from workers import engines

    engines.check(settings.engines)


def paid(settings: Settings, *, keys: bool) -> None:
    """Raises SettingsError for what would end a fallback: a model in a route without a price and,
    with `keys`, a provider whose key is missing."""
    from fallback.cost import pricing
    from fallback.providers import secret

    prices = pricing.Prices(settings.prices, settings.fallback.currency)
    found = prices.of_routes(settings.route, settings.providers)
    faults = pricing.check(settings.route, found)
    cloudy = (route for route in settings.route if route.cloud)
    used = {name for route in cloudy for name, _ in route.provider_models}
    for provider in settings.providers if keys else ():
        if provider.name in used:
            try:
                secret.read(provider)
            except secret.KeyMissing as missing:
                faults.append(str(missing))
    if faults:
        raise SettingsError("\n".join(faults))


def quickstart() -> Engine:
    """The engine of a worker without any in its settings: a small real model that it starts."""
    from workers.engines.llamacpp import embedded as llamacpp_embedded
    from workers.engines.llamacpp import server

    try:
        return llamacpp_embedded.quickstart()
    except server.ModelMissing:
        raise SettingsError(
            "no engine is named, and the built-in one is not installed. Name one that runs "
            "already, as in --engine llamacpp=http://127.0.0.1:8081, or install the built-in one: "
            f"{server.INSTALL}"
        ) from None


def split_login(url: str) -> dict[str, str]:
    """A broker's URL with its login taken out, so that it never reaches a log."""
    parts = urlsplit(url)
    if not parts.hostname:
        raise SettingsError(f"--nats: {url!r} is no URL such as nats://127.0.0.1:4222")
    # From the last @ on, because a password may hold one.
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    found = {"url": urlunsplit(bare)}
    if parts.username:
        found |= {"user": unquote(parts.username), "password": unquote(parts.password or "")}
    return found


def parse_engine(text: str) -> dict[str, Any]:
    """``NAME=URL``, ``KIND:NAME=URL`` or ``URL`` as an [[engines]] table.

    The kind is the name where that is one (``llamacpp=http://…``), echo for ``echo://…``,
    else llamacpp. Raises SettingsError.
    """
    from workers.engines import KINDS

    name, equals, url = text.partition("=")
    if not equals or "://" in name:  # a bare URL, which may hold an = itself
        name, url = "", text
    if "://" not in url:
        raise SettingsError(
            f"--engine: {text!r} is not NAME=URL, as llamacpp=http://127.0.0.1:8080"
        )
    kind, _, rest = name.partition(":")
    if url.startswith("echo://"):
        kind, name = "echo", name or "echo"
    elif kind in KINDS:
        name = rest or name
    else:
        kind, name = "llamacpp", name or urlsplit(url).netloc
    return {"name": name, "kind": kind, "url": url}


def render(settings: Settings) -> str:
    """`settings` as TOML; secrets and logins in URLs are masked, None is left out."""
    parts = []
    for name, value in settings.model_dump(exclude_none=True).items():
        head, sections = f"[{name}]", [value]
        if isinstance(value, list):
            head, sections = f"[[{name}]]", value
        for section in sections:
            rows = (f"{key} = {_value(found)}\n" for key, found in section.items())
            parts.append(f"{head}\n{''.join(rows)}")
    return "\n".join(parts)


def _value(value: Any) -> str:
    """JSON's strings, numbers, booleans and lists of strings are TOML's as well."""
    match value:
        case dict():
            rows = (f"{json.dumps(key)} = {_value(each)}" for key, each in value.items())
            return "{" + ", ".join(rows) + "}"
        case Decimal():
            return f"{value:f}"
        case SecretStr():
            value = MASK if value.get_secret_value() else ""
        case str():
            value = _LOGIN.sub(f"//{MASK}@", value)
    return json.dumps(value, ensure_ascii=False)
