"""Acks to JetStream, and statuses that it sends. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from schemas.bus import Message

# What a holder sends to the ack subject of a delivery (docs.nats.io, "Acknowledging messages").
ACK = b"+ACK"
NAK = b"-NAK"  # the broker delivers the message again
TERM = b"+TERM"  # the broker never delivers the message again
IN_PROGRESS = b"+WPI"  # the ack-wait window starts again
ACK_AND_ASK = b"+NXT "  # acks, and asks for the next message in the same one


@dataclass(frozen=True, slots=True)
class Status:
    """What the broker sends instead of a message. `why`: the broker's own words. `last`: in a
    heartbeat, how many messages the broker sent. `asks`: the subject where the broker waits
    for an answer before it sends more; empty if it does not wait. `left`: how many messages the
    request did not get; -1 if that is not said."""

    code: str
    why: str
    last: int
    asks: str
    left: int = -1

    @property
    def expired(self) -> bool:
        """A pull request ran out of time, which is normal while the queue is empty."""
        return self.code == "408"

    @property
    def over(self) -> bool:
        """There is no message for the request."""
        return self.code in ("404", "408")

    @property
    def absent(self) -> bool:
        """There is no such consumer, or nobody who could answer for it now."""
        return self.code == "503"

    @property
    def idle(self) -> bool:
        """A heartbeat, or a pause for flow control: the consumer is alive."""
        return self.code == "100"


def status_of(message: Message) -> Status | None:
    """The status in `message`; None if it is a message of a stream."""
    headers = message.headers
    if message.data or not headers or "Status" not in headers:
        return None
    return Status(
        headers["Status"],
        headers.get("Description", ""),
        int(headers.get("Nats-Last-Consumer", 0)),
        message.reply or headers.get("Nats-Consumer-Stalled", ""),
        int(headers.get("Nats-Pending-Messages", -1)),
    )


def seconds(stamp: str) -> float:
    """Unix time of one of the broker's RFC 3339 stamps."""
    return datetime.fromisoformat(stamp).timestamp()
