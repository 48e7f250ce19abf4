"""The page ``/metrics`` of a worker or a fallback, at an address of its own."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

import structlog
from prometheus_client import start_http_server

from schemas import hosts
from schemas.settings import SettingsError

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

log = structlog.get_logger("metrics_page")

NEXT = 16
"""Ports that are tried from the default one on: so many processes of one kind may run here. Then
it is any free one."""


class Section(Protocol):
    """The settings of a process with such a page."""

    @property
    def metrics_host(self) -> str: ...

    @property
    def metrics_port(self) -> int: ...

    @property
    def model_fields_set(self) -> set[str]: ...


class Page(NamedTuple):
    """`address`: ``host:port``, "" if there is no page. `close` ends it."""

    address: str
    close: Callable[[], None]


def serve(role: str, section: Section) -> Page:
    """Serve the page from now on. Raises SettingsError if it cannot be served where the settings
    say."""
    host, wanted = section.metrics_host, section.metrics_port
    if wanted < 0:
        return Page("", lambda: None)
    chosen = wanted == 0 or "metrics_port" in section.model_fields_set
    ports = [wanted] if chosen else [*range(wanted, wanted + NEXT), 0]
    tried = (_served(role, host, each, last=ports[-1]) for each in ports)
    server = next(filter(None, tried))
    port = int(server.server_port)
    bare = f"[{host}]" if ":" in host else host
    moved = {"moved_from": wanted} if wanted and port != wanted else {}
    log.info(f"{role}.metrics", url=f"http://{bare}:{port}/metrics", **moved)
    return Page(f"{bare}:{port}", partial(_end, server))


def _end(server: WSGIServer) -> None:
    server.shutdown()
    server.server_close()


def _served(role: str, host: str, port: int, *, last: int) -> WSGIServer | None:
    """The server of the page; None if this port is taken and is not the last one to try."""
    try:
        server, _ = start_http_server(port, host)
    except OSError as fault:
        if fault.errno == errno.EADDRINUSE and port != last:
            return None
        raise SettingsError(
            f"[{role}] metrics_port: /metrics cannot listen on {host}:{port}: "
            f"{fault.strerror or fault}. Set another port, 0 for any free one, or -1 for no page"
        ) from None
    page = server.get_app()
    if page is not None and hosts.is_loopback(host):
        server.set_app(_for_us(page))
    return server


def _for_us(page: WSGIApplication) -> WSGIApplication:
    """`page` for those who ask for it by a name of this machine, as `schemas.hosts` says why."""

    def checked(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if hosts.is_ours(environ.get("HTTP_HOST", "")):
            return page(environ, start_response)
        start_response("421 Misdirected Request", [])
        return [b"This page is there for localhost and addresses alone.\n"]

    return checked
