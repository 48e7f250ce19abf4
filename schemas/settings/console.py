"""Settings of the console: its pages for a browser."""

from __future__ import annotations

from pydantic import Field, field_validator

from schemas import hosts
from schemas.settings.base import Section


class Console(Section):
    """`ingress_url`: whose requests and keys it shows, "": the first ingress at the broker.
    `public_url`: how browsers call it, where that is neither localhost nor an address."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = Field(8480, ge=0, le=65_535)
    ingress_url: str = ""
    public_url: str = ""

    @field_validator("ingress_url", "public_url")
    @classmethod
    def _can_be_asked(cls, url: str) -> str:
        if url and not hosts.is_base(url, path=False):
            raise ValueError("this is no URL such as https://console.example")
        return url

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return hosts.is_loopback(self.host)
