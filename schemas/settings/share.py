"""Settings of a broker that other machines reach."""

from __future__ import annotations

import contextlib
import ipaddress
import re

from pydantic import Field, field_validator, model_validator

from schemas.settings.base import Section

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_NAME = re.compile(
    r"(?:(?P<scheme>tls|wss)://)?(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::(?P<port>\d{1,5}))?"
)


class Share(Section):
    """The broker of `headrace up` beyond this machine; `host` is "" if it is not."""

    host: str = ""
    port: int = Field(4222, ge=1, le=65_535)
    names: list[str] = Field([], max_length=8)
    certificate: str = ""
    key: str = ""
    ca: str = ""
    websocket_port: int = Field(-1, ge=-1, le=65_535)
    websocket_tls: bool = True
    leaf_port: int = Field(-1, ge=-1, le=65_535)
    forget_nodes: float = Field(0.0, ge=0, le=10 * 366 * 86_400)

    @field_validator("host")
    @classmethod
    def _address(cls, value: str) -> str:
        if value:
            try:
                ipaddress.ip_address(value)
            except ValueError:
                raise ValueError(
                    f"{value!r} is no address of this machine, as 0.0.0.0 for all of them"
                ) from None
        return value

    @field_validator("names")
    @classmethod
    def _callable(cls, value: list[str]) -> list[str]:
        for each in value:
            if not _is_host(parts(each)[1]):
                raise ValueError(
                    f"{each!r} is no name or address of this machine, such as hub.example.com, "
                    "10.0.0.5, hub.example.com:14222 or wss://hub.example.com"
                )
        return value

    @model_validator(mode="after")
    def _whole(self) -> Share:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key go together")
        if self.ca and not self.certificate:
            raise ValueError("ca is that of an own certificate, and there is none")
        if self.websocket_port in (0, self.port):
            raise ValueError("websocket_port is a port of its own, or -1")
        if self.leaf_port in (0, self.port, max(self.websocket_port, 0)):
            raise ValueError("leaf_port is a port of its own, or -1")
        web = {parts(each)[0] == "wss" for each in self.names}
        if not self.websocket_tls and len(web) > 1:
            raise ValueError(
                "with websocket_tls = false, either all names are wss://, by the certificate of "
                "the proxy that ends TLS, or none is"
            )
        return self

    @property
    def proxied(self) -> bool:
        """Whether others reach it only through a proxy, whose certificate they see."""
        web = [parts(each)[0] == "wss" for each in self.names]
        return not self.websocket_tls and bool(web) and all(web)


def parts(name: str) -> tuple[str, str, int | None]:
    """Scheme ("" if none is said), host and port of one of `names`; no host if it is none."""
    with contextlib.suppress(ValueError):
        return "", str(ipaddress.IPv6Address(name)), None
    found = _NAME.fullmatch(name)
    port = int(found["port"]) if found and found["port"] else None
    if found is None or (port is not None and not 0 < port < 65_536):
        return "", "", None
    return found["scheme"] or "", found["host"].strip("[]"), port


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return _HOST.fullmatch(text) is not None and ".." not in text
    return True
