"""From flags, environment and file to the settings of one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from deploy import home
from schemas.settings import Settings, SettingsError, load


def resolve(
    role: str, config: Path | None, data: Path, flags: dict[str, Any], nats: str | None = None
) -> Settings:
    """Settings for a process of `role`; without a broker's URL, the one that runs on `data`.

    Raises SettingsError.
    """
    if nats is not None:
        flags["nats"] = split_login(nats)
    settings = load(config, flags)
    if "url" not in settings.nats.model_fields_set and (found := home.login(data, role)):
        settings = load(config, {**flags, "nats": {**flags.get("nats", {}), **found}})
    if role == "ingress" and not settings.keys:
        key = {"name": "local", "account": "local", "secret": home.own_key(data)}
        settings = load(config, {**flags, "nats": _plain(settings), "keys": [key]})
    return settings


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
