"""What the events of the log say to people, one line each. Pure; the events are all there is.

`SAID` has the events that people look out for. All others are shown as they are, by their names and
fields, so that nothing is lost that has no words yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from string import Formatter
from typing import Any

Event = Mapping[str, Any]
Words = str | tuple[str, ...] | Callable[[Event], str]
"""A text with fields in braces; several, of which those are said whose fields are all there and not
empty; or a function."""

_APART = frozenset({"event", "level", "timestamp", "exception"})
"""Fields that are not a part of a line's words."""


def line(event: Event) -> str:
    """The words for one event, without a line's end, and with nothing that a terminal obeys: texts
    of clients and engines may be in it."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode()
        for each in _said(event)
    )


def _said(event: Event) -> str:
    words = SAID.get(str(event.get("event")), _as_it_is)
    if callable(words):
        return words(event)
    given = {name: _shown(value) for name, value in event.items()}
    texts = (words,) if isinstance(words, str) else words
    said = "".join(text.format_map(given) for text in texts if _has_all(given, text))
    return said or _as_it_is(event)


def _as_it_is(event: Event) -> str:
    more = " ".join(f"{name}={value}" for name, value in event.items() if name not in _APART)
    return f"{event.get('event')} {more}".rstrip()


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _has_all(given: Mapping[str, str], text: str) -> bool:
    return all(given.get(name) for _, name, _, _ in Formatter().parse(text) if name)


def _request(event: Event) -> str:
    """``200 /v1/chat/completions echo for alice at attic: 81 ms, first byte after 9``, and more."""
    at = event.get("served_by") or event.get("node")
    times = f"{event.get('ms', 0):.0f} ms"
    if event.get("queue_ms", 0) >= 1:
        times += f", {event['queue_ms']:.0f} in the queue"
    if "ttft_ms" in event:
        times += f", first byte after {event['ttft_ms']:.0f}"
    if "completion_tokens" in event:
        times += f", {event.get('prompt_tokens', 0)} + {event['completion_tokens']} tokens"
    place = f" at {at}" if at else ""
    what = f"{event.get('status')} {event.get('endpoint')} {event.get('asked')}"
    why = f": {event['error']}: {event['why']}" if "error" in event else ""
    return f"{what} for {event.get('key')}{place}: {times}{why}"


def _changed_models(event: Event) -> str:
    parts = []
    if event.get("added"):
        parts.append(f"served now: {_shown(event['added'])}")
    if event.get("gone"):
        parts.append(f"not served any more: {_shown(event['gone'])}")
    return f"models: {'; '.join(parts)} ({event.get('models')} in all)"


def _draining(event: Event) -> str:
    return f"stops: takes no new work, {event.get('jobs') or 'nothing'} left to finish"


def _lost(event: Event) -> str:
    return (
        f"worker {event.get('holder')} {'left' if event.get('drained') else 'lost its connection'}"
    )


_READ_AGAIN = (
    "the settings were read again",
    "; in force: {applied}",
    "; these need a restart: {restart}",
)

SAID: Mapping[str, Words] = {
    # The process and the broker.
    "settings.passed_over": "passed over, as Kubernetes sets it for a Service: {variables}",
    "bus.connected": ("connected to the broker at {url}", " as {user}"),
    "bus.disconnected": "lost the broker; it is tried again until it is there",
    "bus.reconnected": "connected to the broker again",
    "bus.jobs_denied": ("{why}", ": {subject}"),
    "bus.error": ("the broker at {url}: {error}", " (away for {away} s)"),
    **{f"{role}.draining": _draining for role in ("ingress", "worker", "fallback")},
    **{f"{role}.ended": "ended; nothing is left" for role in ("ingress", "worker", "fallback")},
    **{f"{role}.not_reloaded": "the settings stay as they were: {error}"
       for role in ("ingress", "worker", "fallback")},
    **{f"{role}.reloaded": _READ_AGAIN for role in ("worker", "fallback")},
    **{f"{role}.metrics": ("metrics at {url}", ", as port {moved_from} is taken")
       for role in ("worker", "fallback")},
    **{f"{role}.started": ("{role} {node}", " of {engines}", ", release {version}")
       for role in ("worker", "fallback")},
    # A worker's engines.
    "engine.starting": ("engine {engine} starts", ": {reason}", " (for {seconds} s)"),
    "engine.ready": ("engine {engine} is ready", ", {slots} slots", ": {models}", ". But {reason}"),
    "consumer.awaited": "waiting for an ingress to make the queue of {model}",
    "consumer.pulls_lost": "{pulls} requests for jobs of {model} were lost; they are made again",
    "engine.failed": (
        "engine {engine} failed: {reason}", " (for {seconds} s)", ". {hint}",
        "; it is tried again",
    ),
    "engine.stopping": "engine {engine} takes no more jobs",
    "engine.fault": "engine {engine}: {error}",
    "engine.model_left_out": "engine {engine}: the model {model} cannot be served: {why}",
    "process.started": "program {process} started, pid {pid}",
    "process.ended": "program {process} ended: {reason}; it is started again in {again_in} s",
    "process.said": "program {process}: {line}",
    # A fallback's providers.
    "fallback.ready": ("models of the providers", " {providers}", ": {models}"),
    "overdue.pulls_lost":
        "{pulls} requests for overdue jobs of {model} were lost; they are made again",
    "provider.fault": ("{error}", ": {said}"),
    # An ingress.
    "ingress.together": "{processes} processes listen there together",
    "ingress.listening": "OpenAI's API is at {url}/v1",
    "ingress.reloaded": "the settings were read again: {keys} keys, {routes} routes",
    "ingress.no_vault": "{why}",
    "keys.read": "{keys} keys of the store are known",
    "models.changed": _changed_models,
    "worker.lost": _lost,
    # The console, and what it has the hub do.
    "console.listening": "the console is at {url}",
    "console.open": "the console listens at {host}: put a proxy with TLS before it",
    "console.signed_in": "signed in: {key}",
    "console.refused": "sign-in refused for {address}: {why}",
    "console.key_gone": "signed out: {key}, as its key is not taken any more",
    "hub.changed": "node {name}: {verb}, by {by}",
    "worker.silent": "worker {holder} says nothing any more",
    "request": _request,
    "refused": "refused: {code}: {why}",
}  # fmt: skip
