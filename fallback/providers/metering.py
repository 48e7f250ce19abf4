"""Measures a provider's answer as it passes: the usage that the provider reports, or else our own
count. Also finds errors inside of streams.

Providers report tokens in the words of each API (`schemas.api`), and some sounds in seconds. Google
leaves thoughts out of `completion_tokens`, not out of `total_tokens`, and charges them as output.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from fallback.cost.pricing import copies
from fallback.cost.spent import NOTHING, Spent
from fallback.providers import kinds
from fallback.providers.base import ProviderFault, Task
from fallback.providers.http import Body
from fallback.providers.prompt import LETTERS, prompt_tokens
from schemas import bounds
from schemas.api import media, sse
from schemas.api.base import PLAIN, Api, number
from schemas.api.endpoints import APIS
from workers.engines.base import Sink
from workers.engines.openai.stream import Filter

HEARD = 10
"""Tokens of one second of a recording, as OpenAI counts."""
_TOKENS = frozenset(
    {kinds.CHAT, kinds.COMPLETIONS, kinds.RESPONSES, kinds.MESSAGES}
    | {kinds.EMBEDDINGS, kinds.MODERATIONS}
)
"""Endpoints whose prompts are paid by the token."""
_ERRORS = (b"error", b"response.failed")
_SIGNS = (b'"usage"', *_ERRORS)
"""An event is parsed only if it holds one of these; nearly all events just pass."""
_NULL = b',"usage":null'
"""OpenAI's spelling, in every chunk but the last. Replacing it takes a tenth of the time of
`_NO_USAGE`, which finds every spelling."""
_NO_USAGE = re.compile(rb',\s*"usage"\s*:\s*null|"usage"\s*:\s*null\s*,?')
Blame = Callable[[Mapping[str, Any]], ProviderFault]
"""What an error object inside a stream means."""


def of_usage(api: Api, usage: Mapping[str, Any]) -> Spent:
    """A provider's own `usage` object."""
    seconds = usage.get("seconds")
    if isinstance(seconds, int | float):
        return Spent(seconds=float(max(0, min(seconds, bounds.TOKENS))))
    told = api.usage({"usage": usage}) if usage else None
    if told is None:
        return Spent(told=False)
    prompt, completion, cached = max(0, told.prompt), max(0, told.completion), max(0, told.cached)
    rest = max(0, number(usage, "total_tokens") - prompt - completion)
    if not prompt:  # for embeddings, some providers report only `total_tokens`
        return Spent(rest, completion, cached, stored=_stored(usage))
    return Spent(prompt, completion + rest, cached, stored=_stored(usage))


def _stored(usage: Mapping[str, Any]) -> int:
    """Quarters of a token for writing to Anthropic's cache: a token kept for five minutes costs
    1.25 times its price, a token kept for an hour twice its price."""
    written, told = number(usage, "cache_creation_input_tokens"), usage.get("cache_creation")
    hourly = number(told, "ephemeral_1h_input_tokens") if isinstance(told, Mapping) else 0
    return max(0, written) + 3 * min(max(0, hourly), max(0, written))


def usage_in(api: Api, found: dict[str, Any]) -> dict[str, Any] | None:
    """The `usage` object of an event or a document; Groq's streams have it inside of `x_groq`."""
    told, own = api.told(found), found.get("x_groq")
    return api.told(own) if told is None and isinstance(own, dict) else told


class TextCounter:
    """Counts a stream of text or speech. `by_event`: each event carries one token, so events are
    counted; else letters. `seconds`: of the request's recording, which may be billed by length."""

    def __init__(self, task: Task, by_event: bool, seconds: float = 0.0) -> None:
        self._task = task
        self._by_event = by_event
        self._seconds = seconds
        self._api = APIS.get(task.job.endpoint, PLAIN)
        self._events = self._letters = 0
        self._characters = spoken(task).characters if task.job.endpoint == kinds.SPEECH else 0
        self._first: Mapping[str, Any] = {}
        self._last: Mapping[str, Any] = {}

    def take(self, chunk: bytes) -> None:
        """Count whole events."""
        for text in self._api.streamed.findall(chunk):
            self._events += 1
            self._letters += len(text)

    def hear(self, usage: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        """Keep the last usage, which counts, and the first: only that has Anthropic's prompt."""
        self._first = self._first or usage
        self._last = usage

    def told(self) -> Spent | None:
        """The usage that the provider reported; None if it lacks the answer's, or is nonsense."""
        if not _says_output(self._last):
            return None
        told = of_usage(self._api, {**self._first, **self._last})
        if _mended(self._task, told, self._counted) is not told:  # some number was missing
            return None
        return self._whole(told)

    def spent(self) -> Spent:
        """The usage so far: the reported prompt, and our count of the answer if that is more."""
        counted = self._counted()
        merged = {**self._first, **self._last}
        if merged:
            told = _mended(self._task, of_usage(self._api, merged), self._counted)
            return self._whole(replace(told, completion=max(told.completion, counted), told=False))
        heard = math.ceil(self._seconds * HEARD)
        return self._whole(Spent(prompt_tokens(self._task.request) + heard, counted, told=False))

    def _counted(self) -> int:
        return self._events if self._by_event else -(-self._letters // LETTERS)

    def _whole(self, spent: Spent) -> Spent:
        """`spent`, with the characters and seconds that usage in tokens does not hold."""
        seconds = spent.seconds or self._seconds
        return replace(spent, characters=self._characters, seconds=seconds)


class PictureCounter:
    """Counts a stream of pictures: each finished picture reports its own usage. If the stream ends
    early, all pictures of the request count: the provider draws them even if nobody waits."""

    def __init__(self, task: Task) -> None:
        self._asked = copies(task.request)
        self._spent = replace(pictures(task, {}, 0), told=False)

    def take(self, chunk: bytes) -> None:
        """Count the pictures that whole events finish."""
        done = len(media.API.drawn.findall(chunk))
        if done:
            self._spent = replace(self._spent, images=self._spent.images + done, told=True)

    def hear(self, usage: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        told, now = of_usage(media.API, usage), self._spent
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


StreamCounter = TextCounter | PictureCounter


class RequestCounter:
    """Counts a call that has no answer yet. Once the request is sent, the provider does its work
    (reads the prompt, hears the recording, speaks the text, draws the pictures), even if nobody
    waits. `length`: of the recording, in seconds."""

    def __init__(self, task: Task, body: Body, length: Callable[[Task], float]) -> None:
        self._task = task
        self._body = body
        self._length = length

    def spent(self) -> Spent:
        return replace(self._used(), told=False) if self._body.sent else NOTHING

    def _used(self) -> Spent:
        task, endpoint = self._task, self._task.job.endpoint
        if endpoint in _TOKENS:
            return Spent(prompt_tokens(task.request))
        if endpoint == kinds.SPEECH:
            return spoken(task)
        if endpoint in kinds.DRAWING:
            drawn = pictures(task, {}, copies(task.request))
            return replace(drawn, prompt=prompt_tokens(task.request))
        if endpoint in kinds.HEARING:
            return Spent(seconds=self._length(task))
        return Spent()


def document(task: Task, found: dict[str, Any], raw: bytes) -> Spent:
    """What a whole JSON answer about texts used."""
    if task.job.endpoint == kinds.COUNT:
        return Spent()
    api = APIS.get(task.job.endpoint, PLAIN)

    def counted() -> int:
        return -(-sum(map(len, api.written.findall(raw))) // LETTERS)

    if usage := usage_in(api, found):
        return _mended(task, of_usage(api, usage), counted)
    return Spent(prompt_tokens(task.request), counted(), told=False)


def _mended(task: Task, told: Spent, counted: Callable[[], int]) -> Spent:
    """`told`, with our own count in place of each number that is missing: prompt or answer reported
    as 0, null, a fraction, or under an unknown name. `counted`: our count of the answer."""
    if task.job.endpoint not in _TOKENS or told.seconds or (told.prompt and told.completion):
        return told
    completion = told.completion or counted()
    if told.prompt and completion == told.completion:
        return told
    return replace(
        told, prompt=told.prompt or prompt_tokens(task.request), completion=completion, told=False
    )


def spoken(task: Task) -> Spent:
    return Spent(characters=len(str(task.request.get("input") or "")))


def pictures(task: Task, found: dict[str, Any], count: int) -> Spent:
    """What a whole answer with pictures used. Size and quality: the answer's, or the request's."""
    usage = usage_in(media.API, found)
    base = of_usage(media.API, usage) if usage else Spent()
    asked = task.request
    size = str(found.get("size") or asked.get("size") or "")
    quality = str(found.get("quality") or asked.get("quality") or "")
    return replace(base, images=count, size=size, quality=quality)


def _says_output(usage: Mapping[str, Any]) -> bool:
    return not usage.keys().isdisjoint(("completion_tokens", "output_tokens", "seconds"))


class EventFilter(Filter):
    """A Sink before the Sink: counts events, and raises for errors. `strip`: leave out the usage,
    as only we asked for it.

    `workers.engines.openai.stream.Relay` does the same for engines. Here errors must be parsed too,
    as their code decides whether another provider is asked.
    """

    def __init__(
        self, inner: Sink, api: Api, counter: StreamCounter, blame: Blame, *, strip: bool
    ) -> None:
        super().__init__(inner)
        self._api = api
        self._counter = counter
        self._blame = blame
        self._strip = strip
        self.begun = False
        """Something generated has come."""
        self.answered = False
        """What makes the stream an answer has come, perhaps without a word."""

    def data(self, chunk: bytes) -> None:
        """Takes whole events only. At an error event it raises ProviderFault, once the events
        before it were passed on."""
        chunk = sse.without_comments(chunk)
        if self._strip and b'"usage"' in chunk:
            chunk = chunk.replace(_NULL, b"")
            if b'"usage"' in chunk:
                chunk = _NO_USAGE.sub(b"", chunk)
        fault = None
        if any(sign in chunk for sign in _SIGNS):
            chunk, fault = self._read(chunk)
        else:
            self._counter.take(chunk)
        self.begun = self.begun or self._api.begun.search(chunk) is not None
        self.answered = self.answered or self._api.answer.search(chunk) is not None
        if chunk:
            self._inner.data(chunk)
        else:
            self._inner.touch()
        if fault is not None:
            raise fault

    def _read(self, events: bytes) -> tuple[bytes, ProviderFault | None]:
        """(the events to pass on, the fault of an error event among them). Events after the error
        are dropped."""
        going: list[bytes] = []
        for raw in sse.split(events):
            event = sse.typed(raw) if any(sign in raw for sign in _SIGNS) else {}
            usage = usage_in(self._api, event)
            if usage is not None:
                self._counter.hear(usage, event)
            if any(sign in raw for sign in _ERRORS) and (error := self._api.failure(event)):
                return b"".join(going), self._blame(error)
            self._counter.take(raw)
            if usage is None or not self._strip or "usage" not in event:
                going.append(raw + sse.BREAK)
            elif event.get("choices"):  # an event with the usage alone goes as a whole
                going.append(sse.dump({k: v for k, v in event.items() if k != "usage"}))
        return b"".join(going), None
