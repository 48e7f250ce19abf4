"""The connection to the broker as a WebSocket, where a proxy for the web stands before it.

nats-py has one, too. Of its one, what is written stays there until somebody waits for it, which the
hot path never does, and aiohttp warns of how it is opened.
"""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import ParseResult

import aiohttp
from nats.aio.transport import Transport


class WebSocket(Transport):
    """One connection; a new one takes a new object."""

    def __init__(self, server_name: str = "") -> None:
        """`server_name`: whom its certificate is for, if not the host of the url."""
        self._server_name = server_name or None
        self._session: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._waiting: list[bytes] = []
        self._sending: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        await self._open(uri.geturl(), True, connect_timeout)

    async def connect_tls(
        self,
        uri: str | ParseResult,
        ssl_context: ssl.SSLContext,
        buffer_size: int,
        connect_timeout: int,
    ) -> None:
        # nats-py comes again once the broker has said that it has TLS: then this has it already.
        if self._socket is None and isinstance(uri, ParseResult):
            await self._open(uri.geturl(), ssl_context, connect_timeout)

    async def _open(self, url: str, tls: ssl.SSLContext | bool, patience: float) -> None:
        """Raises OSError, as a connection without the web would."""
        self._session = aiohttp.ClientSession()
        try:
            async with asyncio.timeout(patience):
                self._socket = await self._session.ws_connect(
                    url, ssl=tls, server_hostname=self._server_name, max_msg_size=0
                )
        except BaseException as fault:
            await self._session.close()
            if isinstance(fault, aiohttp.ClientConnectorCertificateError):
                raise fault.certificate_error from None
            if isinstance(fault, aiohttp.ClientConnectorSSLError):
                raise fault.os_error from None
            if isinstance(fault, aiohttp.WSServerHandshakeError):
                raise ConnectionError(f"no WebSocket of a broker: status {fault.status}") from None
            if isinstance(fault, aiohttp.ClientError) and not isinstance(fault, OSError):
                raise ConnectionError(str(fault)) from None
            raise

    def write(self, payload: bytes) -> None:
        self._waiting.append(payload)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.get_running_loop().create_task(self._send())

    def writelines(self, payload: list[bytes]) -> None:
        self.write(b"".join(payload))

    async def _send(self) -> None:
        """Send what waits, as long as there is any. A connection that ends is told of by `read`."""
        while self._waiting and self._socket is not None:
            ready, self._waiting = self._waiting, []
            try:
                await self._socket.send_bytes(b"".join(ready))
            except OSError:
                return

    async def drain(self) -> None:
        if self._sending is not None:
            # The task is that of all writers: one that is cancelled here does not end it.
            await asyncio.shield(self._sending)

    async def read(self, buffer_size: int) -> bytes:
        return await self.readline()

    async def readline(self) -> bytes:
        """What one message has, which may be any part of the protocol; empty at the end."""
        if self._socket is None:
            raise ConnectionError("the WebSocket is not open")
        message = await self._socket.receive()
        if message.type == aiohttp.WSMsgType.ERROR:
            raise ConnectionError(f"the WebSocket broke: {message.data}")
        return bytes(message.data) if message.type == aiohttp.WSMsgType.BINARY else b""

    def at_eof(self) -> bool:
        return self._socket is None or self._socket.closed

    def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())

    async def _close(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait({self._sending})
        if self._socket is not None:
            # aiohttp leaves a goodbye of TLS to the loop, which may be closed by then.
            connection = self._socket._conn
            transport = connection.transport if connection is not None else None
            await self._socket.close()
            if transport is not None:
                transport.abort()
        if self._session is not None:
            await self._session.close()
            await asyncio.sleep(0)

    async def wait_closed(self) -> None:
        if self._closing is not None:
            await asyncio.shield(self._closing)

    def __bool__(self) -> bool:
        return True
