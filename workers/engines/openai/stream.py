"""Passes an engine's answer to the client: sinks before the Sink, the model's name, event streams.

A stream passes as it comes, in whole events. A stream has failed if it ends without its documented
end, or if it contains an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import orjson
import structlog

from schemas.api import endpoints, sse
from schemas.api.base import PLAIN, Api, Document, Usage
from schemas.api.piecewise import LARGE
from schemas.jobs import Job
from workers.engines.base import EngineFault, Sink
from workers.engines.http.connection import ConnectionBroken, Response
from workers.engines.openai.refusal import translate

log = structlog.get_logger("engine")

_HEAD = 4096
"""Most bytes of a stream's beginning that wait for its first word."""
_ERROR, _USAGE, _PROGRESS = b"error", b'"usage"', b'"prompt_progress"'
_TIMINGS = b'"timings"'
"""Signs of events that may be errors, or have these fields."""
_HALF_ERROR = b'"error"'
"""Sign of an error in an event that cannot be read; inside a text the quotes would be escaped."""
_SHOWN = 300
"""Most letters of what came in place of an answer that are shown in a message."""
_NOTHING = (b"", b"null", b"[DONE]")
_KEY = b'"model"'
_END = 64 * 1024
"""Bytes at the end of a document that are searched first."""
_NONE: tuple[()] = ()
"""In place of bytes that are not known yet: nothing begins or ends with one of none."""
_FIELD = re.compile(
    rb'(?<!\\)"(?:model"\s*:\s*(?P<name>"[^"\\]*(?:\\.[^"\\]*)*")|(?:response|message)"\s*:\s*\{)',
    re.DOTALL,
)
"""Matches a text field `model`, or the opening of an object that may hold one (`response` in the
responses API, `message` in Anthropic's). A quote after a backslash is inside a string."""
_INNER = b"<"
"""Stands for the opening bracket of such an object in an event."""
_NOT_SHAPE = bytes(sorted(set(range(256)) - set(b'"{}[]')))
"""All bytes but quotes and brackets."""
_ROUNDS = 64
"""Levels of lists and objects between which the field is found. A million of them, a thousand deep,
would hold up others for seconds."""


Mend = Callable[[bytes], bytes]
"""Changes the events with which a stream begins, all up to its first word."""


def says(body: bytes, *signs: bytes) -> bool:
    """Whether a request may say one of `signs`. A large one may: to look takes as long as to parse
    it."""
    return len(body) > LARGE or any(map(body.__contains__, signs))


async def is_stream(response: Response, job: Job) -> bool:
    """Whether an answer is a stream of events. Many small servers send one without a type, or with
    another one, and clients that asked for a stream do not look at it."""
    kind = response.header("content-type").partition(";")[0].strip().lower()
    if kind == sse.CONTENT_TYPE:
        return True
    texts = endpoints.APIS.get(job.endpoint, PLAIN).collector() is not None
    return texts and sse.begins(await response.beginning())


class Given(Response):
    """A stream whose bytes are there already, in place of the answer that an engine gave."""

    def __init__(self, stream: bytes) -> None:
        super().__init__()
        self.add(stream)
        self.end()


class Filter:
    """A Sink before the Sink: it passes on all calls but `data`, which subclasses define."""

    def __init__(self, inner: Sink) -> None:
        self._inner = inner
        self.start = inner.start
        self.touch = inner.touch
        self.settle = inner.settle


class Relay:
    """Passes one stream of `engine` on to `sink`, with its head.

    The head and the first events are kept back until the first word, an event about progress, or
    more than `_HEAD` bytes have come. If the engine fails before that, the client has nothing yet,
    and another engine may still answer.

    An error event fails the attempt instead of passing as an answer: vLLM sends
    ``data: {"error": …}`` and then, as if all were well, ``[DONE]``.
    """

    def __init__(self, engine: str, api: Api, sink: Sink, mend: Mend | None = None) -> None:
        self._engine = engine
        self._mend = mend
        self._api = api
        self._sink = sink
        self._splitter = sse.Splitter()
        self._content_type = sse.CONTENT_TYPE
        self._head = b""
        """The first bytes: only there do Anthropic's streams report the prompt's tokens."""
        self._begun = False
        self.told: Usage | None = None
        """The usage, if it is known though no event tells it."""

    async def run(self, response: Response) -> None:
        """Pass the stream on. Raises EngineFault once all that came before the fault has passed."""
        if (kind := response.header("content-type")).startswith(sse.CONTENT_TYPE):
            self._content_type = kind
        try:
            await response.deliver(self._take)
        except sse.TooLong as fault:
            raise EngineFault(f"{self._engine} sent {fault}", away=True) from None
        except ConnectionBroken:
            if not self._api.ended(self._splitter):  # else nothing of the answer is missing
                raise
        self._finish()

    @property
    def tail(self) -> bytes:
        """The end of the stream, with at least the last event."""
        return self._splitter.tail

    def usage(self) -> Usage | None:
        """The tokens that the first and the last events report."""
        told = self._usage_in(sse.having(self.tail, _USAGE)) or self.told
        if told is None or told.prompt >= 0:  # -1: Anthropic's last event counts the answer alone
            return told
        start = self._usage_in(sse.split(self._head))
        return Usage(start.prompt, told.completion, start.cached) if start else told

    def _take(self, chunk: bytes) -> None:
        self._pass(self._splitter.feed(chunk))

    def _pass(self, events: bytes) -> None:
        if not events:
            self._sink.touch()
            return
        if _ERROR in events:  # the word may stand in a text, too
            self._find_error(events)
        if self._begun:
            self._sink.data(events)
        else:
            self._wait(events)

    def _wait(self, events: bytes) -> None:
        """Keep the events back, unless they or those before them must wait no longer."""
        self._head += events
        # A client that asked for progress wants to see it before the first word.
        if len(self._head) > _HEAD or self._api.begun.search(events) or _PROGRESS in events:
            self._begin()
        else:
            self._sink.touch()

    def _begin(self) -> None:
        self._begun = True
        self._sink.start(200, self._content_type)
        self._sink.data(self._head if self._mend is None else self._mend(self._head))
        self._head = self._head[:_HEAD]  # stays for `usage`

    def _finish(self) -> None:
        """The stream has no more bytes. Raises EngineFault if it is not whole, or no answer."""
        left = self._splitter.left
        if not self._splitter.finished:
            rest = self._api.rest(self._splitter)
            if rest.events:
                self._pass(rest.events)
            if not rest.whole:
                why = f"{self._engine} ended its stream before its end was said"
                raise EngineFault(why + self._instead(left), away=True)
            if not rest.said:  # a finish reason came, but no [DONE]
                log.warning("engine.end_not_said", engine=self._engine)
        if not self._begun:
            if not self._api.answer.search(self._head):
                why = f"{self._engine} sent a stream without an answer"
                raise EngineFault(why + self._instead(left))
            self._begin()

    def _instead(self, left: bytes) -> str:
        """What the engine said in place of an answer, for a message; `left`: behind all events."""
        if self._begun:
            return ""
        said = [(sse.data_of(event) or b"").strip() for event in sse.split(self._head)]
        first = next((data for data in (*said, left.strip()) if data not in _NOTHING), b"")
        told = translate(200, first).message if first else ""
        return f": {told[:_SHOWN]}" if told and not told.startswith("{") else ""

    def _find_error(self, events: bytes) -> None:
        """Raises EngineFault for an error event, after passing on the events before it."""
        at = 0
        for event in events.split(sse.BREAK):
            if why := self._error_of(event):
                before = events[:at]
                if self._begun or self._api.begun.search(before):
                    self._pass(before)
                raise EngineFault(f"{self._engine}: {why}")
            at += len(event) + len(sse.BREAK)

    def _error_of(self, event: bytes) -> str:
        """The error's message; empty if the event holds none."""
        if _ERROR not in event:
            return ""
        found = sse.typed(event)
        if error := self._api.failure(found):
            return str(error.get("message") or (sse.data_of(event) or b"").decode(errors="replace"))
        return "" if found or _HALF_ERROR not in event else "an error inside the stream"

    def _usage_in(self, events: Iterable[bytes]) -> Usage | None:
        """The first report in these events."""
        for event in events:
            for found in sse.objects(event):
                if usage := self._api.usage(found):
                    return usage
        return None


def timed(tail: bytes) -> Usage | None:
    """The tokens in the last `timings` of a stream of one choice, in which llama.cpp's server tells
    them if nobody asked for usage. `tail`: the last events."""
    for event in sse.having(tail, _TIMINGS):
        found = sse.object_of(event)
        if found is not None and (usage := usage_of_timings(found.get("timings"))):
            return usage
    return None


def usage_of_timings(timings: object) -> Usage | None:
    """`prompt_n` tokens were computed, `cache_n` found in the cache, `predicted_n` generated."""
    if not isinstance(timings, dict):
        return None
    told = map(timings.get, ("prompt_n", "cache_n", "predicted_n"))
    computed, cached, generated = (each if isinstance(each, int) else 0 for each in told)
    return Usage(computed + cached, generated, cached)


class ModelName(Filter):
    """A Sink before the Sink that gives the model the name that the client asked for. It gets whole
    events, or a whole document.

    It changes only the answer's own field, not a field of the same name in a tool's arguments or
    in metadata. Most events of a stream are alike before or after the field. So the first event is
    searched, and later ones with the same head or tail are changed there without a search
    (measured: 0.4 µs for an event without the field, 0.5 µs for one that has it, 6 µs for the first
    of a kind). Once an event has the right name, all later ones pass unchanged.
    """

    def __init__(self, inner: Sink, name: str) -> None:
        super().__init__(inner)
        self._own_name = name
        self._name = orjson.dumps(name)
        self._head: bytes | tuple[()] = _NONE
        self._tail: bytes | tuple[()] = _NONE
        self._our_head = self._our_tail = b""
        self._right = False

    def put_into(self, found: Document | list[Document]) -> None:
        """Name the model in a document that was made here, before it is written. llama-server's own
        text completion has a list of them for several prompts."""
        for each in found if isinstance(found, list) else (found,):
            if type(each.get("model")) is str:
                each["model"] = self._own_name
                self._right = True

    def data(self, chunk: bytes) -> None:
        if self._right:
            pass
        # A single event (`rfind` leaves out its end) that begins or ends like an earlier one.
        elif (chunk.endswith(self._tail) or chunk.startswith(self._head)) and (
            chunk.rfind(sse.BREAK, 0, -2) < 0
        ):
            chunk = self._event(chunk)
        elif _KEY in chunk:
            if chunk[:1] in b"{ \t\r\n":  # no event begins so
                chunk = self._document(chunk)
            elif chunk.endswith(sse.BREAK):
                chunk = self._events(chunk)
        self._inner.data(chunk)

    def _events(self, events: bytes) -> bytes:
        """Change several events that came together."""
        at = events.find(sse.BREAK) + len(sse.BREAK)
        first = self._event(events[:at])
        if self._right:
            return events
        rest = events[at:].split(sse.BREAK)[:-1]
        return first + b"".join([self._event(event + sse.BREAK) for event in rest])

    def _document(self, document: bytes) -> bytes:
        start, end = _near_the_end(document)
        if not end:
            start, end, _ = _find(document, b"{")
        if not end or document[start:end] == self._name:
            return document
        whole = memoryview(document)  # it may be large, and is copied once alone
        return b"".join((whole[:start], self._name, whole[end:]))

    def _event(self, event: bytes) -> bytes:
        if event.endswith(self._tail):
            return event[: -len(self._tail)] + self._our_tail
        if event.startswith(self._head):
            return self._our_head + event[len(self._head) :]
        start, end, inner = _find(event, _INNER)
        if not end:
            return event
        self._right = event[start:end] == self._name
        head, tail = event[:start] + self._name, event[end:]
        self._head, self._our_head = event[:end], head
        if not inner:  # bytes after a field in an inner object do not tell which object holds it
            key = event.rindex(_KEY, 0, start) - 1  # with the byte before, which is no backslash
            self._tail, self._our_tail = event[key:], head[key:] + tail
        return head + tail


def _near_the_end(document: bytes) -> tuple[int, int]:
    """(start, end) of the name if it is in the document's second half, else (0, 0). This reads only
    the bytes after the name, not the long text or embeddings before it."""
    at = document.rfind(_KEY, max(len(document) // 2, len(document) - _END))
    found = _FIELD.match(document, at) if at >= 0 else None
    if found is None or _open(b"{", document[found.end() :]):
        return 0, 0
    return found.span("name")


def _find(answer: bytes, inner: bytes) -> tuple[int, int, bool]:
    """(start, end, whether it is in an inner object) of the name; (0, 0, False) if there is none.
    `inner`: what stands for the opening bracket of such an object."""
    opened, at = b"", 0
    for found in _FIELD.finditer(answer):
        opened = _open(opened, answer[at : found.start()])
        at = found.end()
        if found["name"] is None:
            opened += inner if opened == b"{" else b"{"
        elif opened in (b"{", b"{" + _INNER):
            return *found.span("name"), opened != b"{"
    return 0, 0, False


def _open(opened: bytes, text: bytes) -> bytes:
    """The brackets that are open after `text`, which begins and ends outside of strings."""
    if b"\\" in text:
        # Pairs of backslashes go first: one that is left before a quote escapes the quote.
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    shape = text.translate(None, _NOT_SHAPE)
    left = opened + b"".join(shape.split(b'"')[::2])  # every second part is inside a string
    for _ in range(_ROUNDS):
        size = len(left)  # each round takes out the innermost pairs
        left = left.replace(b"{}", b"").replace(b"[]", b"").replace(b"<}", b"")
        if size == len(left):
            break
    return left
