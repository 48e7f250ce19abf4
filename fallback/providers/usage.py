"""What an answer used: as the provider says, and counted by us where it says nothing.

Told usage comes in four shapes: OpenAI's of chats, that of its other endpoints (`input_tokens`),
Anthropic's, and seconds of audio. Two things are mended. Google leaves thoughts out of
`completion_tokens` but not out of `total_tokens`, and charges them as output; tokens that Anthropic
writes to its cache are beside its `input_tokens`, and are read all the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

import orjson

from fallback.cost.estimate import copies
from fallback.providers import kinds
from fallback.providers.base import NOTHING, Spent, Task
from workers.engines.openai.ending import tokens_told

LETTERS = 4
"""Of one token, on average (OpenAI's and Google's rule of thumb for English)."""
HEARD = 10
"""Of a second of a recording, by OpenAI's count."""
_PICTURE = 256
"""Tokens of a picture in a prompt, between those of a small and of a large one."""
_STRING = rb'"\s*:\s*"((?:[^"\\]|\\.)+)"'
_SAID = {
    kinds.CHAT: rb'"(?:content|reasoning_content|reasoning|refusal|arguments)' + _STRING,
    kinds.COMPLETIONS: rb'"text' + _STRING,
    kinds.RESPONSES: rb'"delta' + _STRING,
    kinds.MESSAGES: rb'"(?:text|partial_json|thinking)' + _STRING,
    kinds.TRANSCRIPTIONS: rb'"delta' + _STRING,
}
"""Where the text of a stream's event is. A run of bytes costs about 1 µs an event."""
CHUNKED = frozenset({kinds.CHAT, kinds.COMPLETIONS})
"""Endpoints whose streams tell their usage only if they are asked to."""
_COMPLETED = re.compile(rb'"type": ?"image_(?:generation|edit)\.completed"')
_PATTERNS = {endpoint: re.compile(pattern) for endpoint, pattern in _SAID.items()}
_WHOLE = {**_PATTERNS, kinds.RESPONSES: re.compile(rb'"(?:text|arguments)' + _STRING)}


def of_usage(usage: Mapping[str, Any]) -> Spent:
    """A provider's own `usage` object."""
    seconds = usage.get("seconds")
    if isinstance(seconds, int | float):
        return Spent(seconds=float(seconds))
    told = tokens_told(orjson.dumps({"usage": usage}))
    if told is None:
        return Spent(told=False)
    prompt = max(0, told.prompt) + _number(usage, "cache_creation_input_tokens")
    stored = _stored(usage)
    completion = max(0, told.completion)
    rest = max(0, _number(usage, "total_tokens") - prompt - completion)
    if not prompt:  # of embeddings, some tell nothing else
        return Spent(rest, completion, max(0, told.cached), stored=stored)
    return Spent(prompt, completion + rest, max(0, told.cached), stored=stored)


def _stored(usage: Mapping[str, Any]) -> int:
    """Anthropic takes 1.25 times a token's price for what it keeps for five minutes, and twice for
    an hour's."""
    written, told = _number(usage, "cache_creation_input_tokens"), usage.get("cache_creation")
    hourly = _number(told, "ephemeral_1h_input_tokens") if isinstance(told, Mapping) else 0
    return max(0, written) + 3 * min(max(0, hourly), max(0, written))


def usage_in(event: Mapping[str, Any]) -> dict[str, Any] | None:
    for place in (event, event.get("response"), event.get("message"), event.get("x_groq")):
        usage = place.get("usage") if isinstance(place, Mapping) else None
        if isinstance(usage, dict):
            return usage
    return None


class Running:
    """Counts a stream. `by_event`: an event carries one token, so that events are counted.
    `seconds`: of the recording that it is about, which may be billed by its length."""

    def __init__(self, task: Task, by_event: bool, seconds: float = 0.0) -> None:
        self._task = task
        self._by_event = by_event
        self._seconds = seconds
        self._pattern = _PATTERNS.get(task.job.endpoint)
        self._events = self._letters = 0
        self._characters = spoken(task).characters if task.job.endpoint == kinds.SPEECH else 0
        self._first: dict[str, Any] = {}
        self._last: dict[str, Any] = {}

    def take(self, chunk: bytes) -> None:
        """Whole events, which have no usage."""
        if self._pattern is not None:
            for text in self._pattern.findall(chunk):
                self._events += 1
                self._letters += len(text)

    def hear(self, event: Mapping[str, Any]) -> None:
        """The last usage counts; Anthropic's prompt is in the first alone."""
        usage = usage_in(event) or {}
        self._first = self._first or usage
        self._last = usage

    def told(self) -> Spent | None:
        """What the provider has said at the end; None if nothing of the answer, or nonsense."""
        if not _says_output(self._last):
            return None
        told = of_usage({**self._first, **self._last})
        if _mended(self._task, told, self._counted) is not told:
            return None
        return self._whole(told)

    def spent(self) -> Spent:
        """So far: what was told of the prompt, and our count of the answer."""
        counted = self._counted()
        merged = {**self._first, **self._last}
        if merged:
            told = _mended(self._task, of_usage(merged), self._counted)
            return self._whole(replace(told, completion=max(told.completion, counted), told=False))
        heard = math.ceil(self._seconds * HEARD)
        return self._whole(Spent(prompt_tokens(self._task) + heard, counted, told=False))

    def _counted(self) -> int:
        return self._events if self._by_event else -(-self._letters // LETTERS)

    def _whole(self, spent: Spent) -> Spent:
        """With what usage in tokens does not say."""
        seconds = spent.seconds or self._seconds
        return replace(spent, characters=self._characters, seconds=seconds)


class Drawn:
    """Counts a stream of pictures: each that is completed tells its own usage. Of those that were
    begun and not completed all count: they are drawn whether or not anybody waits for them."""

    def __init__(self, task: Task) -> None:
        self._asked = copies(task.request)
        self._spent = replace(pictures(task, {}, 0), told=False)

    def take(self, chunk: bytes) -> None:
        """Whole events."""
        done = len(_COMPLETED.findall(chunk))
        if done:
            self._spent = replace(self._spent, images=self._spent.images + done, told=True)

    def hear(self, event: Mapping[str, Any]) -> None:
        told, now = of_usage(usage_in(event) or {}), self._spent
        self._spent = replace(
            now,
            prompt=now.prompt + told.prompt,
            completion=now.completion + told.completion,
            cached=now.cached + told.cached,
            size=str(event.get("size") or now.size),
            quality=str(event.get("quality") or now.quality),
        )

    def told(self) -> Spent | None:
        return self._spent if self._spent.told else None

    def spent(self) -> Spent:
        return replace(self._spent, images=max(self._asked, self._spent.images), told=False)


class Departure(Protocol):
    """A request on its way (`fallback.providers.http.Body`)."""

    sent: bool


class Sent:
    """Counts a call that has no answer yet. Once the request is out, its prompt is read there, its
    recording heard, its text spoken, its pictures drawn, whether or not anybody waits for it.
    `length`: of the recording, in seconds."""

    def __init__(self, task: Task, departure: Departure, length: Callable[[Task], float]) -> None:
        self._task = task
        self._departure = departure
        self._length = length

    def spent(self) -> Spent:
        if not self._departure.sent:
            return NOTHING
        return replace(self._used(), told=False)

    def _used(self) -> Spent:
        task, endpoint = self._task, self._task.job.endpoint
        if endpoint in _TOKENS:
            return Spent(prompt_tokens(task))
        if endpoint == kinds.SPEECH:
            return spoken(task)
        if endpoint in (kinds.IMAGES, kinds.EDITS):
            return replace(pictures(task, {}, copies(task.request)), prompt=prompt_tokens(task))
        if endpoint in (kinds.TRANSCRIPTIONS, kinds.TRANSLATIONS):
            return Spent(seconds=self._length(task))
        return Spent()


_TOKENS = frozenset(
    {kinds.CHAT, kinds.COMPLETIONS, kinds.EMBEDDINGS, kinds.RESPONSES, kinds.MESSAGES}
)


def document(task: Task, found: Mapping[str, Any], raw: bytes) -> Spent:
    """Of a whole JSON answer about texts."""
    if task.job.endpoint == kinds.COUNT:
        return Spent()

    def counted() -> int:
        pattern = _WHOLE.get(task.job.endpoint)
        letters = sum(map(len, pattern.findall(raw))) if pattern is not None else 0
        return -(-letters // LETTERS)

    if usage := usage_in(found):
        return _mended(task, of_usage(usage), counted)
    return Spent(prompt_tokens(task), counted(), told=False)


def _mended(task: Task, told: Spent, counted: Callable[[], int]) -> Spent:
    """`told`, or where it says that a text of ours or of the answer had no tokens (it says 0, null,
    a fraction, or nothing that we know) our own count of that. `counted`: tokens of the answer."""
    if task.job.endpoint not in _TOKENS or told.seconds or (told.prompt and told.completion):
        return told
    completion = told.completion or counted()
    if told.prompt and completion == told.completion:
        return told
    return replace(
        told, prompt=told.prompt or prompt_tokens(task), completion=completion, told=False
    )


def spoken(task: Task) -> Spent:
    return Spent(characters=len(str(task.request.get("input") or "")))


def pictures(task: Task, found: Mapping[str, Any], count: int) -> Spent:
    """Of a whole answer with pictures. Size and quality: as drawn, or else as asked for."""
    usage = usage_in(found)
    base = of_usage(usage) if usage else Spent()
    asked = task.request
    size = str(found.get("size") or asked.get("size") or "")
    quality = str(found.get("quality") or asked.get("quality") or "")
    return replace(base, images=count, size=size, quality=quality)


def prompt_tokens(task: Task) -> int:
    """An estimate; token arrays are counted."""
    request = task.request
    given = [request.get(name) for name in ("messages", "system", "prompt", "input")]
    more = [request.get(name) for name in ("instructions", "tools")]
    return _tokens_of([*given, *more])


def _tokens_of(found: Any) -> int:
    letters = tokens = 0
    for each in _leaves(found):
        if isinstance(each, str):
            letters += len(each)
        else:
            tokens += each
    return tokens + -(-letters // LETTERS)


_UNREAD = frozenset({"role", "type", "id", "image_url", "input_audio", "source", "file", "data"})


def _leaves(found: Any) -> Iterator[str | int]:
    """Texts, and numbers of tokens."""
    if isinstance(found, str):
        yield found
    elif isinstance(found, Mapping):
        if found.get("type") in ("image_url", "image", "input_image"):
            yield _PICTURE
        for name, value in found.items():
            if name not in _UNREAD:
                yield from _leaves(value)
    elif isinstance(found, list):
        yield from _of_list(found)


def _of_list(found: list[Any]) -> Iterable[str | int]:
    if found and all(isinstance(each, int) for each in found):
        yield len(found)
        return
    for each in found:
        yield from _leaves(each)


def _says_output(usage: Mapping[str, Any]) -> bool:
    return not usage.keys().isdisjoint(("completion_tokens", "output_tokens", "seconds"))


def _number(usage: Mapping[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) else 0
