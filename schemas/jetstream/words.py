"""What clients and JetStream, the broker's streams, say to each other in a word. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from schemas.bus import Message

# What a holder says to the ack subject of a delivery (docs.nats.io, "Acknowledging messages").
ACK = b"+ACK"
NAK = b"-NAK"  # the next who asks may have it
TERM = b"+TERM"  # nobody may have it any more
IN_PROGRESS = b"+WPI"  # the ack-wait window begins anew
ACK_AND_ASK = b"+NXT "  # and here is a request for the next


@dataclass(frozen=True, slots=True)
class Status:
    """What the broker says in place of a message. `why`: in its own words. `last`: the newest
    sequence that it sent, as a heartbeat tells it. `asks`: where it waits for an answer before it
    sends more; empty if it does not."""

    code: str
    why: str
    last: int
    asks: str

    @property
    def expired(self) -> bool:
        """The time of a pull request is over, as it should be while there is nothing to give."""
        return self.code == "408"

    @property
    def idle(self) -> bool:
        """A heartbeat, or a pause of the flow control: the consumer lives."""
        return self.code == "100"


def status_of(message: Message) -> Status | None:
    """None for a message of a stream."""
    headers = message.headers
    if message.data or not headers or "Status" not in headers:
        return None
    return Status(
        headers["Status"],
        headers.get("Description", ""),
        int(headers.get("Nats-Last-Stream", 0)),
        message.reply or headers.get("Nats-Consumer-Stalled", ""),
    )


def seconds(stamp: str) -> float:
    """Unix time of one of the broker's RFC 3339 stamps."""
    return datetime.fromisoformat(stamp).timestamp()
