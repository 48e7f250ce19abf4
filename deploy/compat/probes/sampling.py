"""Fields that steer sampling. Every probe raises Unmet or Partial where the field does nothing."""

from __future__ import annotations

from typing import Any

from deploy.compat.rows import row
from deploy.compat.samples import COUNT, INVENT
from deploy.compat.target import (
    CHAT,
    Partial,
    Refused,
    Target,
    Unmet,
    chat_body,
    counts,
    need,
    pieces,
    quoted,
    said,
    text_of,
)

_LIMIT = 5
_LIMITS = ("max_tokens", "max_completion_tokens")
_SEEDS = (1, 2, 3)
_SLACK = 1e-6
"""Rounding may lift a logprob above 0 by as much."""


@row("logprobs", "all ≤ 0, with alternatives in order; the tokens join to the text")
async def logprobs(target: Target) -> str:
    asked = {"max_tokens": 8, "logprobs": True, "top_logprobs": 2}
    choice = (await target.chat("Say hello.", **asked))["choices"][0]
    tokens: list[Any] = (choice.get("logprobs") or {}).get("content") or []
    need(tokens, "the request passed, and no logprobs came")
    for token in tokens:
        tops = [top["logprob"] for top in token["top_logprobs"]]
        need(all(each <= _SLACK for each in (token["logprob"], *tops)), f"not ≤ 0: {token}")
        need(len(tops) == 2, f"{len(tops)} alternatives for top_logprobs: 2")
        need(tops == sorted(tops, reverse=True), f"the alternatives are not in order: {tops}")
    text = "".join(token["token"] for token in tokens)
    need(text == said(choice), f"the tokens {quoted(text)} are not the text {quoted(said(choice))}")
    return f"{len(tokens)} tokens, with two alternatives each, that join to the text"


@row("n > 1", "as many choices as asked for, whole and streamed")
async def n(target: Target) -> str:
    found = await target.chat(INVENT, n=2, temperature=1, max_tokens=_LIMIT)
    indexes = sorted(choice["index"] for choice in found["choices"])
    need(indexes == [0, 1], f"n: 2 gave the choices {indexes}")
    need(all(said(choice).strip() for choice in found["choices"]), "a choice is empty")
    events = await target.chat_stream(INVENT, n=2, temperature=1, max_tokens=_LIMIT)
    streamed = {choice["index"] for choice in pieces(events)}
    if streamed != {0, 1}:
        raise Partial(f"whole answers have two choices, streams have {sorted(streamed)}")
    return "two choices, 0 and 1, whole and streamed"


@row("temperature / top_p", "0 repeats, 1.5 varies, a tiny top_p undoes that, 5.0 is refused")
async def temperature(target: Target) -> str:
    answer = await target.post(CHAT, chat_body(INVENT, temperature=5.0, max_tokens=1))
    cold = await _text(target, temperature=0)
    again = await _text(target, temperature=0)
    hot = [await _text(target, temperature=1.5, seed=seed) for seed in _SEEDS]
    cool = await _text(target, temperature=1.5, top_p=1e-6, seed=_SEEDS[0])
    same = "temperature: 1.5 with three seeds gave three times the text of temperature: 0"
    need(any(text != cold for text in hot), same)
    faults = [
        *(["temperature: 5.0 is taken"] if answer.status == 200 else []),
        *(["temperature: 0 gave two texts"] if again != cold else []),
        *(["top_p: 0.000001 did not bring the likeliest text"] if cool != cold else []),
    ]
    if faults:
        raise Partial("; ".join(faults))
    return "0 repeats itself, 1.5 varies, 1.5 with a tiny top_p is as 0, and 5.0 is refused"


@row("max_tokens / max_completion_tokens", "neither is exceeded, and finish_reason says so")
async def max_tokens(target: Target) -> str:
    faults = {name: await _unlimited(target, name) for name in _LIMITS}
    told = [f"{name}: {why}" for name, why in faults.items() if why]
    if len(set(faults.values())) == 1 and told:  # both names fail for the same reason
        raise Unmet(faults[_LIMITS[0]])
    if told:
        raise Partial("; ".join(told))
    return f"both names stop it at {_LIMIT} tokens, with finish_reason “length”"


async def _unlimited(target: Target, name: str) -> str:
    """What is wrong with the limit of this name, or ""."""
    body = chat_body(COUNT)
    del body["max_tokens"]
    try:
        found = await target.ask(CHAT, {**body, name: _LIMIT})
    except Refused as refused:
        return refused.reason
    used, end = found["usage"]["completion_tokens"], found["choices"][0]["finish_reason"]
    fits = used <= _LIMIT and end == "length"
    return "" if fits else f"{_LIMIT} gave {used} tokens and finish_reason {end!r}"


@row("stop", "the answer ends before a word that it had without it")
async def stop(target: Target) -> str:
    free = text_of(await target.chat(COUNT, max_tokens=24))
    word = _later(free)
    need(word, f"no word to stop at in {quoted(free)}")
    missing = []
    for value in (word, [word, "\0never"]):  # a text, and a list with a text that never comes
        choice = (await target.chat(COUNT, max_tokens=24, stop=value))["choices"][0]
        if word in said(choice):
            missing.append(f"it went on past {quoted(word)}: {quoted(said(choice))}")
        elif choice["finish_reason"] != "stop":
            missing.append(f"finish_reason is {choice['finish_reason']!r}")
    if missing:
        raise (Unmet if len(missing) == 2 else Partial)("; ".join(missing))
    return f"{quoted(free)} ended before {quoted(word)}"


@row("seed", "the same seed repeats at temperature 1, others do not")
async def seed(target: Target) -> str:
    first, again = [await _text(target, temperature=1, seed=7) for _ in range(2)]
    others = [await _text(target, temperature=1, seed=seed) for seed in _SEEDS]
    need(any(other != first for other in others), "four seeds gave one and the same text")
    if first != again:
        # Other work in the engine's batch changes rounding, and with it a text now and then.
        third = await _text(target, temperature=1, seed=7)
        need(third in (first, again), "the same seed gave three texts in three tries")
        raise Partial("the same seed repeated its text in two of three tries")
    return "the same seed gave the same text, another seed another one"


@row("usage is exact", "known numbers of tokens: whole, streamed, two choices")
async def usage(target: Target) -> str:
    """Each answer stops at the limit, so that it is known how many tokens it has."""
    one = await target.chat(COUNT, max_tokens=_LIMIT)
    if one["choices"][0]["finish_reason"] != "length":
        raise Partial("not seen: the model ended before the limit")
    asked = {"max_tokens": _LIMIT, "stream_options": {"include_usage": True}}
    streamed = (await target.chat_stream(COUNT, **asked))[-2]
    need(counts(one)[1] == _LIMIT, f"{_LIMIT} tokens count as {one['usage']}")
    need(counts(streamed) == counts(one), f"streamed {streamed['usage']}, whole {one['usage']}")
    try:
        # A little warm: vLLM refuses several choices where all of them would be the same.
        found = await target.chat(COUNT, n=2, max_tokens=_LIMIT, temperature=0.1)
    except Refused as refused:
        raise Partial(f"right for one choice; two were refused: {refused.reason}") from None
    two = counts(found)[1]
    if two != 2 * _LIMIT:
        raise Partial(f"two choices of {_LIMIT} tokens count as {two}")
    return f"{_LIMIT} tokens, whole and streamed; {two} for two choices"


async def _text(target: Target, **fields: Any) -> str:
    return text_of(await target.chat(INVENT, **fields))


def _later(text: str) -> str:
    """The first word behind two others that is part of neither; "" without any."""
    first, second, *behind = [*text.split(), "", ""]
    return next((word for word in behind if word not in first and word not in second), "")
