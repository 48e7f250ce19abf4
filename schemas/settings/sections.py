"""Settings of broker, ingress, queue and worker; keys and logs."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from schemas import hosts, labels, nkeys
from schemas.jobs import MOST_WANTED
from schemas.keys import ADMIN, KeyPolicy
from schemas.nkeys import KeyPair
from schemas.settings.base import Seconds, Section, SettingsError

_BROKER = re.compile(r"(nats|tls)://[^\s,/]+/?|wss?://[^\s,/]+(/[^\s,]*)?")
_WEB = ("ws://", "wss://")
"""By these the broker is spoken to as WebSockets, through proxies for the web."""
SECURE = ("tls://", "wss://")


class Nats(Section):
    """How to reach the broker. `ca`, `seed`, `creds`: paths of files; `tls_name`: whom its
    certificate is for, if that is not the host of the url."""

    url: str = "nats://127.0.0.1:4222"
    user: str = ""
    password: SecretStr = SecretStr("")
    seed: str = ""
    creds: str = ""
    ca: str = ""
    tls_name: str = ""
    replicas: int = Field(1, ge=1, le=5)
    monitor_port: int = Field(-1, ge=-1, le=65_535)
    sync: str = Field("1s", pattern="^(always|[1-9][0-9]*(ms|s|m))$")

    @field_validator("url")
    @classmethod
    def _reachable(cls, value: str) -> str:
        each = value.split(",")
        if not all(map(_BROKER.fullmatch, each)):
            raise ValueError("a url is as nats://host:4222, tls://host:4222 or wss://host")
        if len({url.startswith(_WEB) for url in each}) > 1:
            raise ValueError("either all urls are ws:// and wss://, or none of them")
        return value

    @model_validator(mode="after")
    def _safe(self) -> Nats:
        if (self.ca or self.tls_name) and re.search(r"\bws://", self.url):
            raise ValueError("a ws:// url has no TLS, which ca and tls_name are for: say wss://")
        if sum(map(bool, (self.user, self.seed, self.creds))) > 1:
            raise ValueError("one login: a user with its password, a seed, or creds")
        return self

    def key(self) -> KeyPair | None:
        """The key to log in with, as its file is now. Raises SettingsError."""
        what, path = ("seed", self.seed) if self.seed else ("login", self.creds)
        if not path:
            return None
        try:
            text = Path(path).expanduser().read_text()
            return nkeys.read(text) if self.seed else nkeys.credentials(text)
        except OSError as fault:
            raise SettingsError(f"the {what} in {path}: {fault.strerror}") from None
        except ValueError as fault:
            raise SettingsError(f"the {what} in {path}: {fault}") from None

    def now(self) -> Nats:
        """These settings, with the broker's address at this moment."""
        return self

    @property
    def secure(self) -> bool:
        """Whether no other connection will do than one with TLS."""
        urls = self.url.split(",")
        return bool(self.ca or self.tls_name) or any(each.startswith(SECURE) for each in urls)

    @property
    def shown(self) -> str:
        """The url without user and password, for logs and messages."""
        return re.sub(r"//[^/@\s,]*@", "//", self.url)


class Login(Section):
    """A login for an account of its own at the broker: that with the credits for fallbacks and
    `headrace credits`, or that with the keys for ingresses and `headrace key`."""

    url: str = ""
    user: str = ""
    password: SecretStr = SecretStr("")
    seed: str = ""
    creds: str = ""

    @property
    def given(self) -> bool:
        return bool(self.url or self.user or self.seed or self.creds)

    def beside(self, nats: Nats) -> Nats:
        """This login; what it does not say is as in `nats`."""
        names = ("user", "password", "seed", "creds")
        logs_in = self.user or self.seed or self.creds
        own = {name: getattr(self, name) for name in names} if logs_in else {}
        if not self.url:
            return nats.model_copy(update=own)
        return Nats(**{**nats.model_dump(include=set(Nats.model_fields)), "url": self.url, **own})


SECRET_MIN = 16
"""Fewest characters of an API key."""
LOCALHOST = "localhost"
"""As an origin: every page of this machine itself, at whatever port."""
_ORIGIN = r"^(\*|null|localhost|[a-z][a-z0-9+.-]*://[^/?#@*]+/?)$"


class Ingress(Section):
    """The HTTP edge."""

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65_535)
    processes: int = Field(1, ge=1, le=256)
    max_body: int = Field(32 * 2**20, ge=1024, le=2**30)
    max_head: int = Field(64 * 2**10, ge=4096, le=2**20)
    inline_body: int = Field(256 * 2**10, ge=0, le=2**20)
    max_connections: int = Field(8192, ge=16, le=1_000_000)
    connections_of_one: int = Field(0, ge=0, le=1_000_000)
    body_memory: int = Field(512 * 2**20, ge=2**20, le=2**40)
    body_files: int = Field(4 * 2**30, ge=0, le=2**44)
    body_share: float = Field(0.25, ge=0.01, le=1)
    body_folder: str = ""
    keepalive: Seconds = 5.0
    silence: Seconds = 3.0
    grace: Annotated[float, Field(ge=0, le=5)] = 0.15
    broker_wait: Seconds = 10.0
    absence: Annotated[float, Field(ge=0, le=86400)] = 60.0
    forget_models: Annotated[float, Field(ge=0, le=366 * 86400)] = 7 * 86400.0
    unheard: Annotated[float, Field(ge=0, le=86400)] = 60.0
    drain: Seconds = 20.0
    max_buffer: int = Field(8 * 2**20, ge=2**16, le=2**30)
    max_answer: int = Field(96 * 2**20, ge=2**16, le=2**34)
    public_url: str = Field("", pattern="^(https?://[^/?#@]+[^?#]*)?$")
    trusted_proxies: list[str] = []
    failed_keys: int = Field(30, ge=1, le=1_000_000)
    vault_away: Seconds = 900.0
    cors_origins: list[Annotated[str, Field(pattern=_ORIGIN)]] = [LOCALHOST]
    limit_window: Annotated[float, Field(ge=1, le=600)] = 60.0
    fetch_size: int = Field(20 * 2**20, ge=0, le=2**30)
    fetch_timeout: Seconds = 10.0
    fetch_private: bool = False
    fetch_ports: list[Annotated[int, Field(ge=1, le=65_535)]] = [80, 443]
    lenient: bool = False
    max_pixels: int = Field(50_000_000, ge=4096, le=2**31)
    picture_store: int = Field(64 * 2**20, ge=2**20, le=2**34)
    picture_age: Seconds = 600.0
    affinity: bool = True
    affinity_least: int = Field(2048, ge=256, le=2**30)
    affinity_memory: float = Field(4.0, ge=0.1, le=1000)
    affinity_wait: float = Field(0.05, ge=0.05, le=MOST_WANTED)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return hosts.is_loopback(self.host)

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        for each in value:
            try:
                ipaddress.ip_network(each)
            except ValueError:
                raise ValueError(f"{each!r} is no address or network as 10.0.0.0/8") from None
        return value


class Jobs(Section):
    """The queue."""

    queue_depth: int = Field(2000, ge=1, le=1_000_000)
    tenant_depth: int = Field(1000, ge=1, le=1_000_000)
    max_attempts: int = Field(3, ge=1, le=20)
    ack_wait: Annotated[float, Field(ge=1, le=60)] = 3.0
    dead_age: Seconds = 86_400.0
    answer_age: Seconds = 86_400.0
    batch_patience: Seconds = 300.0

    @property
    def depth_of_one(self) -> int:
        """Jobs of one tenant for one model that may wait or run."""
        return min(self.tenant_depth, self.queue_depth)


class Worker(Section):
    """The pull side."""

    node: str = Field("", max_length=64)
    labels: dict[str, str] = {}
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(9464, ge=-1, le=65_535)
    pull_expires: Annotated[float, Field(ge=0.5, le=30)] = 2.0
    stall: Seconds = 15.0
    drain: Seconds = 30.0
    ring: int = Field(2 * 2**20, ge=2**16, le=2**30)

    @property
    def card_labels(self) -> tuple[str, ...]:
        """As cards have them."""
        return tuple(sorted(f"{name}={value}" for name, value in self.labels.items()))

    @field_validator("labels", mode="before")
    @classmethod
    def _texts(cls, value: object) -> object:
        """``gpu = 4090`` is meant as ``gpu = "4090"``."""
        if not isinstance(value, dict):
            return value
        plain = (str, int, float)
        return {
            name: str(said) if isinstance(said, plain) and not isinstance(said, bool) else said
            for name, said in value.items()
        }

    @field_validator("labels")
    @classmethod
    def _labels(cls, value: dict[str, str]) -> dict[str, str]:
        for name, said in value.items():
            if not labels.is_label(f"{name}={said}"):
                raise ValueError(f"{name} = {said!r}: {labels.RULE}")
        if len(value) > labels.MOST:
            raise ValueError(f"a node has {labels.MOST} labels at most")
        return value


class Key(KeyPolicy):
    """One API key. `admin`: it also has that scope."""

    name: str = Field(min_length=1, max_length=64)
    secret: SecretStr
    admin: bool = False

    def policy(self) -> KeyPolicy:
        """What it may do, whichever way that was said."""
        said = {name: getattr(self, name) for name in KeyPolicy.model_fields}
        scopes = (*self.scopes, ADMIN) if self.admin else self.scopes
        return KeyPolicy.model_validate({**said, "scopes": scopes})

    @field_validator("secret")
    @classmethod
    def _long_enough(cls, value: SecretStr) -> SecretStr:
        if len(value.get_secret_value()) < SECRET_MIN:
            raise ValueError(f"a key's secret needs at least {SECRET_MIN} characters")
        return value


class Log(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"
    prompts: bool = False
    most: int = Field(32 * 2**20, ge=2**20, le=2**40)
