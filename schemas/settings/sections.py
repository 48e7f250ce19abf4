"""Settings of broker, ingress, queue and worker; keys and logs."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator

from schemas.settings.base import Seconds, Section


class Nats(Section):
    """How to reach the broker."""

    url: str = "nats://127.0.0.1:4222"
    user: str = ""
    password: SecretStr = SecretStr("")
    replicas: int = Field(1, ge=1, le=5)
    sync: str = Field("1s", pattern="^(always|[1-9][0-9]*(ms|s|m))$")

    def now(self) -> Nats:
        """These settings, with the broker's address at this moment."""
        return self

    @property
    def shown(self) -> str:
        """The url without user and password, for logs and messages."""
        return re.sub(r"//[^/@\s,]*@", "//", self.url)


SECRET_MIN = 16
"""Fewest characters of an API key."""
_ORIGIN = r"^(\*|null|[a-z][a-z0-9+.-]*://[^/?#@*]+/?)$"


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
    broker_wait: Seconds = 10.0
    absence: Annotated[float, Field(ge=0, le=86400)] = 60.0
    unheard: Annotated[float, Field(ge=0, le=86400)] = 60.0
    drain: Seconds = 20.0
    max_buffer: int = Field(8 * 2**20, ge=2**16, le=2**30)
    max_answer: int = Field(256 * 2**20, ge=2**16, le=2**34)
    public_url: str = Field("", pattern="^(https?://[^/?#@]+[^?#]*)?$")
    cors_origins: list[Annotated[str, Field(pattern=_ORIGIN)]] = []
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
    answer_age: Seconds = 86_400.0


class Worker(Section):
    """The pull side."""

    node: str = Field("", max_length=64)
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(0, ge=-1, le=65_535)
    pull_expires: Annotated[float, Field(ge=0.5, le=30)] = 2.0
    stall: Seconds = 15.0
    drain: Seconds = 30.0
    ring: int = Field(2 * 2**20, ge=2**16, le=2**30)


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
        if len(value.get_secret_value()) < SECRET_MIN:
            raise ValueError(f"a key's secret needs at least {SECRET_MIN} characters")
        return value


class Log(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"
    prompts: bool = False
