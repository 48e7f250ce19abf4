"""Streams, and leaving them. Every probe raises Unmet or Partial where the behaviour is missing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from deploy.compat.rows import row
from deploy.compat.samples import COUNT
from deploy.compat.target import (
    CHAT,
    Partial,
    Target,
    Unmet,
    chat_body,
    counts,
    granted,
    need,
    pieces,
    quoted,
    said,
    text_of,
)
from deploy.compat.transport import DONE, Answer, Ask
from schemas.api import endpoints

_CARDS = 2.2
"""Seconds in which two cards come; each tells how many slots are busy."""
_PATIENCE = 5.0
"""Seconds within which a card tells that a slot became busy, or free."""
_LOOK = 0.05
TEXT = endpoints.COMPLETIONS.path
_PLAIN: Mapping[str, Any] = {"max_tokens": 5}
_COUNTED: Mapping[str, Any] = {**_PLAIN, "stream_options": {"include_usage": True}}
_LONG = 2000
"""Tokens of an answer that nobody waits for."""
_STORY = "Write a story of two thousand words about a water mill."


@row("streaming (SSE)", "several pieces, one finish_reason, one id, [DONE]")
async def streaming(target: Target) -> str:
    events = await target.chat_stream(COUNT, max_tokens=12)
    need(events[-1] == DONE, "the stream ends without [DONE]")
    choices = pieces(events)
    texts = [text for choice in choices if (text := said(choice))]
    need(len(texts) > 1, f"the text came in {len(texts)} piece")
    need(choices[0]["delta"].get("role") == "assistant", "the first piece has no role")
    ends = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    need(ends == ["length"], f"finish_reason came as {ends}, with a limit of 12 tokens")
    ids = {event["id"] for event in events if event != DONE}
    need(len(ids) == 1, f"the pieces of one answer have {len(ids)} ids")
    return f"{len(texts)} pieces, a finish_reason and [DONE]"


@row("streaming: stream_options.include_usage", "in the last event, and only if asked for")
async def include_usage(target: Target) -> str:
    """Of chats, and of text completions where the model has them."""
    used = _counted(*[await target.chat_stream(COUNT, **asked) for asked in (_PLAIN, _COUNTED)])
    if "completions" in target.facts.features:
        text = [
            await target.stream(TEXT, {"prompt": "1 2 3", **asked}) for asked in (_PLAIN, _COUNTED)
        ]
        try:
            _counted(*text)
        except Unmet as unmet:
            raise Partial(f"in chats; in text completions, {unmet.reason}") from None
    return f"{used} tokens, in the last event, and only if asked for"


def _counted(plain: list[Any], asked: list[Any]) -> int:
    """The tokens that a stream says it took. Raises Unmet if the stream that was not asked tells
    them, too, or the other one does not."""
    need(not any(e != DONE and e.get("usage") for e in plain), "usage comes without being asked")
    need(asked[-1] == DONE and len(asked) > 1, "the stream ends without [DONE]")
    last = asked[-2]
    need(last.get("usage") and last["choices"] == [], "no usage comes before [DONE]")
    return counts(last)[1]


@row("a begun answer is gone on with", "its second half follows its first, as if it had not broken")
async def resumed(target: Target) -> str:
    """So a stream goes on whose worker has died. Some engines give the beginning once more."""
    text = text_of(await target.chat(COUNT, max_tokens=24))
    begun = text[: text.rfind(" ", 0, len(text) // 2)]
    need(begun, f"there is no half of {quoted(text)}")
    talk = [{"role": "user", "content": COUNT}, {"role": "assistant", "content": begun}]
    rest = text_of(await target.chat(talk, max_tokens=24)).removeprefix(begun)
    missing = text[len(begun) :]
    need(rest.startswith(missing), f"after {quoted(begun)} came {quoted(rest)}")
    need(len(rest) > len(missing), f"it began anew: {quoted(begun + rest)}")
    return f"after {quoted(begun)} came {quoted(rest)}"


@row("client leaves: its slot is free", "the node counts it as free while the answer was not over")
async def cancel(target: Target) -> str:
    """Leave in the middle of a long answer, and watch until the slot is free."""
    before = await _calm(target.facts.busy)
    # At most half of the context, so that the prompt fits, too.
    room = (target.facts.context or 2 * _LONG) // 2
    asked = chat_body(_STORY, max_tokens=min(_LONG, room), stream=True)
    async with target.open(Ask("POST", CHAT, target.body(asked))) as (status, headers, chunks):
        if status != 200:
            granted(Answer(status, headers, b"".join([chunk async for chunk in chunks])))
        if not await _taken(chunks, lambda: target.facts.busy() > before):
            raise Partial("not seen: the answer was over before its slot was told of")
    left = time.monotonic()
    free = await _until(lambda: target.facts.busy() <= before)
    need(free, f"the slot was still busy {_PATIENCE:g} s after the client had left")
    return f"the slot was free within {time.monotonic() - left:.1f} s after the client had left"


async def _calm(busy: Callable[[], int]) -> int:
    """Slots that others use. Cards may count the slots of earlier probes for a second, so
    this looks several times and takes the least."""
    least = busy()
    for _ in range(round(_CARDS / _LOOK)):
        if least == 0:
            break
        await asyncio.sleep(_LOOK)
        least = min(least, busy())
    return least


async def _taken(chunks: AsyncIterator[bytes], seen: Callable[[], bool]) -> bool:
    """Read on until a card shows that the slot is taken. False if the answer ends before, or if no
    card shows it in time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            async for _ in chunks:
                if seen():
                    return True
    return False


async def _until(true: Callable[[], bool]) -> bool:
    """Whether the condition becomes true in time."""
    for _ in range(round(_PATIENCE / _LOOK)):
        if true():
            return True
        await asyncio.sleep(_LOOK)
    return true()
