"""From flags, environment and file to the settings of one process."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import BaseModel, SecretStr

from deploy import home
from schemas.settings import Engine, Settings, SettingsError, load

MASK = "********"
_LOGIN = re.compile(r"//[^/@\s]*@")


def resolve(
    role: str, config: Path | None, data: Path, flags: dict[str, Any], nats: str | None = None
) -> Settings:
    """Settings for a process of `role`; without a broker's URL, the one that runs on `data`.

    Raises SettingsError.
    """
    if nats is not None:
        flags["nats"] = split_login(nats)
    settings = read(config, flags) if role == "worker" else load(config, flags)
    if "url" not in settings.nats.model_fields_set and (found := home.login(data, role)):
        flags = {**flags, "nats": {**flags.get("nats", {}), **found}}
        if role == "fallback" and not settings.ledger.user:
            flags["ledger"] = home.login(data, "ledger")
        settings = load(config, flags)
    if role == "ingress" and not settings.keys:
        key = {"name": "local", "account": "local", "secret": home.own_key(data)}
        settings = load(config, {**flags, "nats": _plain(settings), "keys": [key]})
    if role == "fallback" and not any(route.cloud for route in settings.route):
        raise SettingsError("no [[route]] names providers: there is nothing for a fallback to do")
    if role == "worker" and not settings.engines:
        settings = settings.model_copy(update={"engines": [quickstart()]})
    return settings


def read(config: Path | None, flags: dict[str, Any] | None = None) -> Settings:
    """The settings, with engines that there are. Raises SettingsError."""
    from workers import engines

    settings = load(config, flags)
    engines.check(settings.engines)
    return settings


def paid(settings: Settings, *, keys: bool) -> None:
    """What a fallback with these settings would end for: models in routes that have no price, and
    with `keys` providers whose key is not there. Raises SettingsError."""
    from fallback.cost import pricing
    from fallback.providers import secret

    prices = pricing.Prices(settings.prices, settings.fallback.currency)
    faults = pricing.check(settings.route, settings.providers, prices)
    used = {
        each.partition("/")[0]
        for route in settings.route
        if route.cloud
        for each in route.providers
    }
    for provider in settings.providers if keys else ():
        if provider.name in used:
            try:
                secret.read(provider)
            except secret.KeyMissing as missing:
                faults.append(str(missing))
    if faults:
        raise SettingsError("\n".join(faults))


def quickstart() -> Engine:
    """The engine of a worker that was given none: a small real model, started by the worker."""
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


def _plain(settings: Settings) -> dict[str, Any]:
    nats = settings.nats
    return {"url": nats.url, "user": nats.user, "password": nats.password.get_secret_value()}


def split_login(url: str) -> dict[str, str]:
    """A broker's URL with its login taken out, so that it never reaches a log."""
    parts = urlsplit(url)
    if not parts.hostname:
        raise SettingsError(f"--nats: {url!r} is no URL such as nats://127.0.0.1:4222")
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
    if not equals or "://" in name:
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
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if isinstance(value, list):
            parts += [f"[[{name}]]\n{_rows(each)}" for each in value]
        else:
            parts.append(f"[{name}]\n{_rows(value)}")
    return "\n".join(parts)


def _rows(section: BaseModel) -> str:
    values = {name: getattr(section, name) for name in type(section).model_fields}
    return "".join(
        f"{name} = {_value(value)}\n" for name, value in values.items() if value is not None
    )


def _value(value: Any) -> str:
    """JSON's strings, numbers, booleans and lists of strings are TOML's as well."""
    if isinstance(value, dict):
        rows = (f"{json.dumps(key)} = {_value(each)}" for key, each in value.items())
        return "{" + ", ".join(rows) + "}"
    if isinstance(value, Decimal):
        return f"{value:f}"
    return json.dumps(_masked(value), ensure_ascii=False)


def _masked(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else ""
    return _LOGIN.sub(f"//{MASK}@", value) if isinstance(value, str) else value
