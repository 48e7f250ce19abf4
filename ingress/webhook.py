"""Sends alerts to the webhook of the settings, as the Standard Webhooks say (standardwebhooks.com):
OpenAI's clients can verify them (`client.webhooks.verify_signature`).

The stream is the queue: one of all ingresses has an alert, and who does not get it through gives it
back for later. The address is the operator's own, so it may lead anywhere; redirects are not
followed. What it holds beside the host, and the secret, are never logged.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson
import structlog

from schemas import alerts, metrics, subjects, topology
from schemas.alerts import MICRO, Alert
from schemas.bus import Bus, BusError, Message
from schemas.jetstream import streams
from schemas.jetstream.pulls import Pulls, Room, hand_back
from schemas.jetstream.words import ACK, TERM
from schemas.jobs import CodecError
from schemas.settings import Alerts, Settings, SettingsError

log = structlog.get_logger("alerts")

TICK = 1.0
"""Seconds between two looks at the pull."""
EXPIRES = 20.0
LONGEST = 600.0
"""Seconds between two tries, after the first ten; before, each pause is twice the one before."""
TRIES = 150
"""After about a day an alert is given up."""
TYPE = "budget.threshold_reached"
_BASE64 = "whsec_"
"""A secret that begins so is base64, as the Standard Webhooks write it."""


def secret_of(config: Alerts) -> bytes:
    """The key of signatures; empty if there is none. Raises SettingsError."""
    found, where = config.secret.get_secret_value(), "[alerts] secret"
    if config.secret_file:
        path = Path(config.secret_file).expanduser()
        where = f"[alerts] secret_file: {path}"
        try:
            found = path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as fault:
            raise SettingsError(f"{where} cannot be read: {fault}") from None
        if not found:
            raise SettingsError(f"{where} is empty")
    if not found.startswith(_BASE64):
        return found.encode()
    try:
        return base64.b64decode(found.removeprefix(_BASE64), validate=True)
    except binascii.Error:
        raise SettingsError(f"{where}: behind {_BASE64} there is no base64") from None


def signature(secret: bytes, id: str, at: int, body: bytes) -> str:
    signed = hmac.digest(secret, f"{id}.{at}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(signed).decode()}"


def document(alert: Alert, currency: str) -> bytes:
    """What is sent. `text` is for people: chats show it."""
    budget = alert.budget
    unit = currency if budget.unit == MICRO else budget.unit
    data: dict[str, Any] = {
        "budget": budget.name,
        "account": budget.account,
        "key": budget.key or None,
        "threshold": alert.threshold,
        "period": budget.period,
        "used": budget.used,
        "of": budget.of,
        "left": max(0, budget.of - budget.used),
        "unit": budget.unit,
        "currency": currency if budget.unit == MICRO else None,
    }
    whose = f"key {budget.key!r} of the account" if budget.key else "account"
    used, of = (_amount(number, budget.unit) for number in (budget.used, budget.of))
    text = (
        f"Headrace: the {whose} {budget.account!r} has used {alert.threshold} % of its "
        f"{budget.name.replace('_', ' ')} ({used} of {of} {unit})."
    )
    stamp = datetime.fromtimestamp(alert.at, UTC).isoformat(timespec="seconds")
    return orjson.dumps({"type": TYPE, "timestamp": stamp, "text": text, "data": data})


def _amount(number: int, unit: str) -> str:
    return f"{number / 1_000_000:.2f}" if unit == MICRO else str(number)


class Webhook:
    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError for a secret that cannot be read."""
        config = settings.alerts
        self._url = config.url.get_secret_value()
        self._secret = secret_of(config)
        self._timeout = aiohttp.ClientTimeout(total=config.timeout)
        self._currency = settings.fallback.currency
        self._replicas = settings.nats.replicas

    async def run(self, bus: Bus) -> None:
        """Send what comes, until this is cancelled; at once over without a url."""
        if self._url:
            log.info("alerts.webhook", host=urlsplit(self._url).hostname)
            await _Puller(bus, self._replicas, self._deliver).run()

    async def _deliver(self, message: Message) -> bytes | float:
        """What the broker is answered, or seconds until the message is tried again."""
        try:
            alert = alerts.unpack(message.data)
        except CodecError as fault:
            log.error("alerts.undecodable", error=str(fault))
            return TERM
        why = await self._send(alert)
        tries = subjects.turn_of(message.reply)[1]
        about = {"id": alert.id, "account": alert.budget.account, "tries": tries}
        if not why:
            metrics.WEBHOOKS.labels("delivered").inc()
            log.info("alerts.sent", **about)
            return ACK
        if tries >= TRIES:
            metrics.WEBHOOKS.labels("given_up").inc()
            log.error("alerts.given_up", error=why, **about)
            return TERM
        metrics.WEBHOOKS.labels("failed").inc()
        pause = min(LONGEST, 2.0 ** (tries - 1))
        log.warning("alerts.not_sent", error=why, again=pause, **about)
        return pause

    async def _send(self, alert: Alert) -> str:
        """Why it was not delivered; "" if it was."""
        body, at = document(alert, self._currency), int(time.time())
        headers = {
            "content-type": "application/json",
            "user-agent": f"headrace/{metadata.version('headrace')}",
            "webhook-id": alert.id,
            "webhook-timestamp": str(at),
        }
        if self._secret:
            headers["webhook-signature"] = signature(self._secret, alert.id, at, body)
        try:
            async with (
                aiohttp.ClientSession(timeout=self._timeout) as session,
                session.post(
                    self._url, data=body, headers=headers, allow_redirects=False
                ) as answer,
            ):
                return "" if 200 <= answer.status < 300 else f"it answered {answer.status}"
        except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as fault:
            return type(fault).__name__  # the text may have the address


class _Puller:
    """Gives `deliver` one message after the other."""

    def __init__(
        self, bus: Bus, replicas: int, deliver: Callable[[Message], Awaitable[bytes | float]]
    ) -> None:
        self._bus = bus
        self._replicas = replicas
        self._deliver = deliver
        self._room = Room(1)
        self._pulls = Pulls(
            bus,
            subjects.ALERTS_STREAM,
            subjects.WEBHOOK,
            expires=EXPIRES,
            priority=0,
            on_status=lambda _: None,  # the next look asks again
            on_message=self._take,
            room=self._room,
        )
        self._sending: asyncio.Task[None] | None = None

    async def run(self) -> None:
        opened, said = -1, ""
        try:
            while True:
                try:
                    if opened != self._bus.epoch:
                        opened = await self._open()
                    self._pulls.lost(asyncio.get_running_loop().time())
                    self._pulls.fill()
                except BusError as fault:
                    if str(fault) != said:  # not each second
                        said = str(fault)
                        log.warning("alerts.not_pulled", error=said)
                await asyncio.sleep(TICK)
        finally:
            await self._close()

    async def _open(self) -> int:
        epoch = self._bus.epoch
        consumer = topology.webhook(self._replicas)
        await streams.ensure_consumer(self._bus, subjects.ALERTS_STREAM, consumer)
        await self._pulls.open()
        return epoch

    async def _close(self) -> None:
        await self._pulls.close()
        if self._sending is not None:
            await asyncio.gather(self._sending, return_exceptions=True)

    def _take(self, message: Message) -> None:
        self._room.take()
        self._sending = asyncio.create_task(self._handle(message))

    async def _handle(self, message: Message) -> None:
        try:
            answer = await self._deliver(message)
            if isinstance(answer, float):
                hand_back(self._bus, message.reply, answer)
            else:
                with contextlib.suppress(BusError):  # it comes again, with the same id
                    self._bus.post(message.reply, answer)
        finally:
            self._room.release()
