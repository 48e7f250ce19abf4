"""One streamed chat (`TEXT`, its `USAGE` at the end) in all the spellings of real servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

TEXT = '{"a":1}'


def delta(said: dict[str, Any], reason: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": said, "finish_reason": reason}
    return {"id": "c", "object": "chat.completion.chunk", "choices": [choice], **more}


PROMPT = {"id": "", "choices": [], "prompt_filter_results": []}
ROLE, WORDS = delta({"role": "assistant", "content": ""}), delta({"content": '{"a":'})
REST, FINISH = delta({"content": "1}"}), delta({}, "stop")
USAGE = {"id": "c", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
JUDGED: dict[str, Any] = {"index": 0, "finish_reason": None, "content_filter_results": {}}
LATE = b"data: %b\n\n" % orjson.dumps({"id": "c", "choices": [JUDGED]})
"""What Azure's filter says behind the end of an answer."""
ALL = (PROMPT, ROLE, WORDS, REST, FINISH, USAGE)


def spelt(
    event: bytes = b"data: %b\n\n", done: bytes = b"data: [DONE]\n\n", first: bytes = b""
) -> bytes:
    return first + b"".join(event % orjson.dumps(each) for each in ALL) + done


PLAIN = spelt()
OVER_LINES = PLAIN.replace(b'{"id":', b'{\ndata: "id":').replace(
    b',"choices"', b',\ndata:"choices"'
)
SPELLINGS: Mapping[str, bytes] = {
    "plain": PLAIN,
    "no space": spelt(b"data:%b\n\n", b"data:[DONE]\n\n"),
    "spaces": spelt(b"data:   %b  \n\n", b"data:  [DONE]  \n\n"),
    "no last blank line": spelt(done=b"data: [DONE]"),
    "a comment behind": spelt(done=b"data: [DONE]\n\n: bye\n\n"),
    "comments between": spelt(b": ping\n\ndata: %b\n\n"),
    "comments inside": spelt(b": ping\ndata: %b\n: pong\n\n", b": ping\ndata: [DONE]\n: pong\n\n"),
    "heartbeats": spelt(b"data:\n\ndata: %b\n\ndata\n\n", first=b"data: \n\n"),
    "over lines": OVER_LINES,
    "CR": PLAIN.replace(b"\n", b"\r"),
    "CRLF": PLAIN.replace(b"\n", b"\r\n"),
    "a mark": spelt(first=b"\xef\xbb\xbf"),
    "names": spelt(b"event: message\nid: 1\ndata: %b\n\n", b"event: done\ndata: [DONE]\n\n"),
    "a small end": spelt(done=b"data:[done]\n\n"),
    "no end": spelt(done=b""),
    "no end but a comment": spelt(done=b": bye"),
    "no end but a judgement": spelt(done=LATE),
    "two ends": spelt(done=b"data: [DONE]\n\n" * 2),
    "more behind": spelt(done=b"data: [DONE]\n\n" + LATE),
    "a null and a number": spelt(b"data: null\n\ndata: 1\n\ndata: %b\n\n"),
    "a wait": spelt(b"event: wait\n\ndata: %b\n\n", first=b"retry: 3000\n\n"),
}
