"""nats-py's client, as far as it connects: to which address and as whom, with TLS or without, again
after an end, and what becomes of it at the server's errors. What carries messages is `client`.

nats-py's own would give up, hang or leave somebody waiting in the cases that are told of here.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable
from typing import Any

from nats import errors as nats_errors
from nats.aio.client import DEFAULT_BUFFER_SIZE as BUFFER
from nats.aio.client import Client, Srv
from nats.aio.transport import TcpTransport, Transport

from schemas import denials, tls
from schemas.nkeys import KeyPair
from schemas.settings import Nats

WEB = ("ws", "wss")
_FAREWELL = 1.0
"""Seconds for a connection to end."""
_DENIED = "permissions violation"
"""The only error of the server (docs.nats.io, client protocol, "+OK/-ERR") that leaves the
connection open. A new connection mends the others, perhaps once an operator has done his part."""


class NoTls(nats_errors.Error):
    """The broker has no TLS, without which this login is not to be said."""


class _Tcp(TcpTransport):
    async def connect_tls(self, *args: Any, **named: Any) -> None:
        """asyncio would warn at the end of each connection, as it does not know that it has TLS."""
        await super().connect_tls(*args, **named)
        protocol: Any = self._io_writer and self._io_writer.transport.get_protocol()
        if protocol is not None:  # as it is of a connection that has ended meanwhile
            protocol._over_ssl = True

    async def wait_closed(self) -> None:
        """uvloop does not always say that a connection with TLS is closed which the broker has just
        ended: a node that was evicted hung at its own end for ever, about once in four times."""
        try:
            async with asyncio.timeout(_FAREWELL):
                await super().wait_closed()  # type: ignore[no-untyped-call]
        except TimeoutError:
            if self._io_writer is not None:
                self._io_writer.transport.abort()


class Connecting(Client):
    def __init__(self, relocate: Callable[[Srv], None] = lambda server: None) -> None:
        """`relocate` may change the address of a server, and the login, before each try."""
        super().__init__()
        self._relocate = relocate
        self.secure = False
        """Without TLS, nothing is said."""
        self._trusts: str | None = None
        """The file of the CA whom it trusts with that; None until it is secure."""

    async def _connect_to_server(self, s: Srv) -> None:
        self._relocate(s)
        s.last_attempt = time.monotonic()
        if self._transport:  # of a try that came no further
            self._transport.close()  # type: ignore[no-untyped-call]
        self._transport = transport = self._made_for(s)
        patience = self.options["connect_timeout"]
        if s.uri.scheme == "wss":
            await transport.connect_tls(s.uri, self.ssl_context, BUFFER, patience)
        else:
            await transport.connect(s.uri, BUFFER, patience)

    def _made_for(self, server: Srv) -> Transport:
        if server.uri.scheme not in WEB:
            return _Tcp()  # type: ignore[no-untyped-call]
        from schemas.websocket import WebSocket

        return WebSocket(self.options.get("tls_hostname", ""))

    def prepare(self, settings: Nats) -> None:
        """Login and TLS of the next connection. Raises SettingsError."""
        self._log_in_with(settings.key())
        self.secure = settings.secure
        password = settings.password.get_secret_value() if settings.user else None
        self.options |= {"user": settings.user or None, "password": password}
        self.options.pop("tls_hostname", None)
        if settings.tls_name:
            self.options["tls_hostname"] = settings.tls_name
        if settings.secure and self._trusts != settings.ca:
            self.options["tls"] = tls.context(settings.ca)
            self._trusts = settings.ca

    def _log_in_with(self, key: KeyPair | None) -> None:
        """nats-py itself has no way in for a key but a file."""
        self._signature_cb = key.sign if key is not None else None
        claims = key.claims.encode() if key is not None else b""
        self._user_jwt_cb = (lambda: claims) if claims else None
        self._public_nkey = key.public if key is not None else None

    def _connect_command(self) -> bytes:
        """It has the login, so that whoever could listen or alter it must be kept out by now."""
        server = self._current_server
        if self.secure and not (server and server.uri.scheme == "wss"):
            writer = getattr(self._transport, "_io_writer", None)
            if writer is None or writer.get_extra_info("ssl_object") is None:
                raise NoTls("the broker has no TLS")
        command: bytes = super()._connect_command()
        return command

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """nats-py takes the web's addresses of a cluster for others, which never answer."""
        if self._current_server is not None and self._current_server.uri.scheme in WEB:
            info = {name: value for name, value in info.items() if name != "connect_urls"}
        await super()._process_info(info, initial_connection)

    async def _attempt_reconnect(self) -> None:
        """nats-py would never try again if uvloop says that the new socket is closed already."""
        while True:
            try:
                return await super()._attempt_reconnect()
            except RuntimeError as fault:
                await self._error_cb(fault)
                self._status = Client.RECONNECTING

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        """nats-py writes what waits to the socket, although uvloop may have closed it already."""
        waiting, self._pending, self._pending_data_size = self._pending, [], 0
        if waiting and self.is_connected and self._transport is not None:
            with contextlib.suppress(RuntimeError):
                self._transport.writelines(waiting)
        await super()._close(status, do_cbs)

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        """The connection may have ended without nats-py knowing: then there is nothing to flush to,
        whoever waits for it. The next connection subscribes anew and sends what is kept."""
        try:
            return await super()._flush_pending(force_flush)
        except (OSError, RuntimeError):  # the latter is uvloop's
            return None

    async def _process_err(self, err_msg: str) -> None:
        """nats-py would close for good at most errors, and the process would end."""
        if _DENIED in err_msg.lower():
            await super()._process_err(err_msg)
        else:
            await self._process_op_err(nats_errors.Error(f"nats: {err_msg}"))


def refusal(fault: Exception, text: str, settings: Nats) -> str:
    """Why it would not help to try again, and what to do; "" if it might."""
    # nats-py reports a refused login as a plain Error.
    if "authorization violation" in text.lower():
        return f"the broker refuses {denials.who(settings)}"
    if isinstance(fault, NoTls):
        return (
            f"the broker at {settings.shown} has no TLS, and without it nothing is said to it: is "
            "it the right address? If it is to have none, say nats:// and leave [nats] ca out"
        )
    if isinstance(fault, ssl.SSLError):
        return tls.reason(fault, settings.shown)
    return ""
