"""Messages as version 1 of the protocol packed them, but for the names of holders: those of
processes that have one token are not heard."""

from __future__ import annotations

from typing import Any

import msgpack

ID = "0123456789abcdef0123456789abcdef"
ACK = "$JS.ACK.JOBS.echo-i.1.5.9.1700000000000000000.0"


def job(*, id: str = ID, model: str = "echo", body: bytes = b"{}", total_by: int = 2**42) -> bytes:
    """The last field is that of the tags."""
    times = (1000, 3000, total_by, total_by)
    who = ("acme", "k1", "application/json")
    path = "/v1/chat/completions"
    fields = (id, "in-1", "i", model, path, *times, False, *who, body, 0, (("lenient", "true"),))
    return packed(*fields)


def frame(kind: int, seq: int, body: Any) -> bytes:
    return packed(kind, 1, 5, seq, body)


def packed(*fields: Any) -> bytes:
    return msgpack.packb((1, *fields))  # type: ignore[no-any-return]


JOB = job()
CLAIM = frame(0, 0, ("attic.w-old", "attic", "e", ACK))
"""It says no role, and no edition."""
DATA = frame(2, 1, b"x")
GO = packed(0, ID, 5, None)
CARD = (
    b'{"holder":"attic.w-old","node":"attic","server":"S","client":7,"version":"0.9","draining":false,'
    b'"engines":[{"name":"e","kind":"echo","state":"ready","slots":4,"busy":0,"reason":""}],'
    b'"models":[{"id":"old","engine":"e","kind":"echo","slots":4,"context":0,"fields":0,'
    b'"modalities":["text"],"features":["chat"]}],"jobs":0,"started":1700000000,"role":"worker",'
    b'"fields":[{"ignores":[],"knows":[]}]}'
)
