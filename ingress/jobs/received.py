"""What has come of one job, for whoever answers its client. Pure."""

from __future__ import annotations

from collections import deque
from urllib.parse import quote

from ingress.jobs.resume import ResumableStream
from schemas.errors import HeadraceError
from schemas.frames import COST, NOTED, SERVED_BY, End, Start
from schemas.jobs import Begun

_PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


class Received:
    """`head`: the upstream's status and content type. `notes`: what the head, or the books, should
    say besides. `ended` or `error`: how it ended. `buffered`: bytes that were not taken yet."""

    __slots__ = (
        "_pieces", "buffered", "ended", "error", "head", "notes", "paid", "resumable", "seen",
    )  # fmt: skip

    def __init__(self, resumable: ResumableStream | None) -> None:
        self.head: Start | None = None
        self.notes: dict[str, str] = {}
        self.ended: End | None = None
        self.error: HeadraceError | None = None
        self.buffered = 0
        self.seen = False
        """The client may have something of it, so that no other attempt can answer."""
        self.paid = False
        """A provider says it."""
        self.resumable = resumable
        """Keeps what the client has of a stream that a provider may continue."""
        self._pieces: deque[bytes] = deque()

    @property
    def done(self) -> bool:
        return self.ended is not None or self.error is not None

    def served_by(self, node: str | None) -> dict[str, str]:
        """Who gave it and what it cost, as headers; empty while nobody has. `node`: the worker's,
        if it is one."""
        if self.notes:
            return {name: plain(value) for name, value in self.notes.items() if _is_ours(name)}
        return {} if node is None else {SERVED_BY: f"node:{plain(node)}", COST: "0"}

    @property
    def owed(self) -> bool:
        """Whether there is text of a provider's that the client has not got: it pays for it, so it
        is to have it before it hears of any error."""
        return self.paid and self.buffered > 0 and self.head is not None and self.head.status == 200

    @property
    def resuming(self) -> bool:
        """Whether the stream broke, and the rest of it is for a provider."""
        return self.resumable is not None and self.resumable.broken

    def add(self, piece: bytes) -> None:
        if self.resumable is not None:
            piece = self.resumable.add(piece)
        self._pieces.append(piece)
        self.buffered += len(piece)

    def take(self) -> bytes:
        """What came since the last call. From now on the attempt cannot be repeated."""
        if not self._pieces:
            return b""
        self.seen = True
        self.buffered = 0
        if len(self._pieces) == 1:
            return self._pieces.popleft()
        found = b"".join(self._pieces)
        self._pieces.clear()
        return found

    def forget(self) -> None:
        """Who said it was lost, and the client has seen nothing of it."""
        self.head = None
        self.notes.clear()
        self._pieces.clear()
        self.buffered = 0
        if self.resumable is not None:
            self.resumable.forget()

    def break_off(self) -> bool:
        """Who said it was lost, and the client has a part of it: whether it can be continued."""
        return self.resumable is not None and self.resumable.break_off()

    @property
    def begun(self) -> Begun | None:
        """What a provider is to go on from, once the stream broke."""
        return self.resumable.begun if self.resumable is not None else None


def plain(text: str) -> str:
    """As a header's value can carry it: what is not printable ASCII is written as in URLs."""
    return text if text.isascii() and text.isprintable() else quote(text, safe=_PRINTABLE)


def _is_ours(name: str) -> bool:
    return name.startswith(NOTED) and name.isascii() and name.replace("-", "").isalnum()
