"""Turns flags, environment and file into the settings of one process."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import SecretStr

from deploy import home
from deploy.nodes import kept
from schemas.keys import SCOPES
from schemas.settings import Engine, Key, Nats, Settings, SettingsError, apart, load

MASK = "********"
OWN_ACCOUNT = "local"
"""The account of the key that `headrace up` makes."""
_LOGIN = re.compile(r"//[^/@\s]*@")


class Local(Nats):
    """The broker that `headrace up` runs on `data`. Its port may be another after each start."""

    data: Path
    role: str

    def now(self) -> Nats:
        try:
            found = home.login(self.data, self.user or self.role)
        except SettingsError:  # what was known before may still lead to the broker
            found = None
        return self.model_validate({**self.model_dump(), **found}) if found else self


class CommandFailed(Exception):
    """A command cannot do what it was asked to; the message says why, and what to do."""


def no_such(what: str, name: str, known: Iterable[str]) -> str:
    """That there is no node or model, for example, of this name, and which may be meant."""
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f": see 'headrace {what} list'"
    return f"there is no {what} {name!r}{hint}"


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
        if (node := kept.any_of(self.data)) is not None:
            raise Unreachable(
                f"this machine is the node {node.name!r} of the fabric at {node.url}: ask on the "
                "hub's machine, or name --nats with its administrator's login"
            )
        start = "start it with 'headrace up', or name --nats"
        raise Unreachable(f"nothing runs on {self.data}: {start}")


def resolve(role: str, where: Where, flags: Mapping[str, Any]) -> Settings:
    """Settings for a process of `role`. If they name no broker, it is the one that this machine
    joined as that role, or else the one that runs here. Raises SettingsError."""
    settings = where.settings(flags)
    if role == "worker":
        _check_engines(settings)
    # Whoever names a broker means that one, also at the default address.
    named = "url" in settings.nats.model_fields_set
    node = None if named else kept.find(where.data, role)
    if node is not None:
        settings = where.settings(_as_node(settings, flags, where.data, node))
    elif not named:
        own = {"nats": home.login(where.data, role) or {}}
        settings = where.settings({**flags, **own, **_apart(role, where, settings)})
        # `Local` looks the address up again before each connection.
        local = {**settings.nats.model_dump(), "data": where.data, "role": role}
        settings = settings.model_copy(update={"nats": Local.model_validate(local)})
    if role == "ingress":
        return with_own_keys(settings, where.data)
    if role == "fallback" and not any(route.cloud for route in settings.route):
        raise SettingsError("no [[route]] names providers: there is nothing for a fallback to do")
    if role == "worker" and not settings.engines:
        return settings.model_copy(update={"engines": [quickstart()]})
    return settings


def _as_node(
    settings: Settings, flags: Mapping[str, Any], data: Path, node: kept.Node
) -> dict[str, Any]:
    """`flags` of a machine that joined. Raises SettingsError."""
    named = settings.worker.node
    if node.role != "ingress" and named not in ("", node.name):
        raise SettingsError(
            f"this machine joined as the node {node.name!r}, and cannot be {named!r}: leave the "
            f"name out, or change it at the hub: headrace node rename {node.name} {named}"
        )
    own = kept.settings(data, node)
    return {**flags, **{name: {**(flags.get(name) or {}), **own[name]} for name in own}}


def with_own_keys(settings: Settings, data: Path) -> Settings:
    """With the key that `headrace up` printed, whatever other keys there are, and with that of the
    console. Without any, the first is made, but not for an ingress that others can reach: nobody
    would be told of it."""
    alone = not settings.keys and settings.ingress.is_loopback
    if alone or (data / home.KEY_FILE).is_file():
        settings = _with_key(settings, home.own_key(data), ("local", "headrace-up"))
    if settings.console.enabled and (secret := home.found_console_key(data)) is not None:
        settings = _with_key(settings, secret, ("console", "headrace-console"), scopes=SCOPES)
    return settings


def _with_key(
    settings: Settings, secret: str, names: tuple[str, str], **policy: tuple[str, ...]
) -> Settings:
    """`names`: the second is for where the settings have the first."""
    if any(key.secret.get_secret_value() == secret for key in settings.keys):
        return settings
    name = names[0] if all(key.name != names[0] for key in settings.keys) else names[1]
    own = Key(name=name, account=OWN_ACCOUNT, secret=SecretStr(secret), **policy)
    return settings.model_copy(update={"keys": [*settings.keys, own]})


def _apart(role: str, where: Where, settings: Settings) -> dict[str, dict[str, str]]:
    """The login of a process of `role` for an account of its own, at the broker that runs on this
    machine. Its address is not told, as that is the one in [nats], which may change."""
    section, user = {"fallback": ("ledger", "ledger"), "ingress": ("vault", "keys")}.get(
        role, ("", "")
    )
    if not section or getattr(settings, section).given:
        return {}
    found = home.login(where.data, user) or {}
    return {section: {name: found[name] for name in ("user", "password") if name in found}}


def read(config: Path | None, flags: Mapping[str, Any] | None = None) -> Settings:
    """The settings. Raises SettingsError, also for an engine of an unknown kind."""
    settings = load(config, flags)
    _check_engines(settings)
    return settings


def checked(config: Path | None) -> Settings:
    """What ``headrace config check`` looks at. Raises SettingsError with every fault."""
    found = read(config)
    paid(found, keys=False)
    return found


def _check_engines(settings: Settings) -> None:
    from workers import engines

    engines.check(settings.engines)


def paid(settings: Settings, *, keys: bool) -> None:
    """Raises SettingsError for what would end a fallback: a model in a route without a price and,
    with `keys`, a provider whose key is missing."""
    from fallback.cost import price_list
    from fallback.providers import secret

    prices = price_list.Prices(settings.prices, settings.fallback.currency)
    found = prices.of_routes(settings.route, settings.providers)
    faults = price_list.check(settings.route, found)
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
        found["user"] = unquote(parts.username)
    if parts.password is not None:  # else that of the file or of the environment
        found["password"] = unquote(parts.password)
    return found


def parse_engines(texts: Iterable[str]) -> list[dict[str, Any]]:
    """All of --engine as [[engines]] tables. Raises SettingsError, also for one name twice."""
    found = [parse_engine(text) for text in texts]
    try:
        apart(each["name"] for each in found)
    except ValueError as fault:
        raise SettingsError(f"--engine: {fault}") from None
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
    return toml(_masked(value))


def _masked(value: Any) -> Any:
    match value:
        case dict():
            return {key: _masked(each) for key, each in value.items()}
        case SecretStr():
            return MASK if value.get_secret_value() else ""
        case str():
            return _LOGIN.sub(f"//{MASK}@", value)
    return value


def toml(value: Any) -> str:
    """A value as TOML has it. JSON's strings, numbers, booleans and lists of strings are the same
    there, but for one control character."""
    match value:
        case dict():
            rows = (f"{json.dumps(key)} = {toml(each)}" for key, each in value.items())
            return "{" + ", ".join(rows) + "}"
        case Decimal():
            return f"{value:f}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
