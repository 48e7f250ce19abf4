"""Loaded into the pytest of llama.cpp's own tests of its server.

Each of them starts a server, most with the same flags; one that runs with these flags is used
again, whatever it is told of its batches, slots and chances, and the last few are kept. The tests
are written for models that cannot be had here, so what a model says is not held to their patterns;
of tests that differ in the model's name alone one is run, and its answers end.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from typing import Any

sys.path.insert(0, os.getcwd())

import openai
import requests
import utils

_KEY = os.environ["SUITE_KEY"]
_PATIENCE = 300
_start, _stop = utils.ServerProcess.start, utils.ServerProcess.stop
_kept: dict[str, Any] = {}
"""By their flags: the servers that run, the one that is asked now at the end."""
_MOST = 5
_LONGEST = 64
"""Tokens of an answer that is looked at for its tool calls."""
_usual_headers = requests.sessions.default_headers
_usual_init = openai.OpenAI.__init__
_usual_any = utils.ServerProcess.make_any_request


_PASSED_OVER = [
    "process",
    "ready",
    "_log",
    "server_port",
    "temperature",
    "seed",
    "n_batch",
    "n_ubatch",
    "n_slots",
    "n_threads",
    "fa",
    "offline",
    "server_metrics",
    "server_slots",
    "server_continuous_batching",
    "kv_unified",
    "no_ui",
    "cache_ram",
    "log_path",
]


def _flags(server: Any) -> str:
    told = vars(server).items()
    return repr(sorted((name, value) for name, value in told if name not in _PASSED_OVER))


def _start_or_reuse(self: Any, timeout_seconds: int = _PATIENCE) -> None:
    old = _kept.pop(_flags(self), None)
    if old:
        self.server_port, self.process, self.ready = old.server_port, old.process, True
    else:
        if len(_kept) == _MOST:
            _stop(_kept.pop(next(iter(_kept))))
        self.server_port = _free_port()
        self.server_metrics = self.server_slots = True
        _start(self, _PATIENCE)
        _wait_for_models(self)
    _kept[_flags(self)] = self


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_models(server: Any) -> None:
    until = time.monotonic() + _PATIENCE
    headers = {"Authorization": f"Bearer {server.api_key or _KEY}"}
    while time.monotonic() < until:
        answer = requests.get(server.make_url("/v1/models"), headers=headers, timeout=60)
        if answer.status_code == 200 and answer.json()["data"]:
            return
        time.sleep(0.05)


def _headers() -> Any:
    """A server without a key takes any; Headrace always asks for one."""
    asked = next(reversed(_kept.values()), None)
    key = {} if asked is None or asked.api_key else {"Authorization": f"Bearer {_KEY}"}
    return {**_usual_headers(), **key}


def _init(self: Any, *arguments: Any, **options: Any) -> None:
    if options.get("api_key") == "dummy":
        options["api_key"] = _KEY
    _usual_init(self, *arguments, **options)


def _any_request(self: Any, method: str, path: str, data: Any, **more: Any) -> Any:
    """Whole or streamed. The first event of a stream may have an empty text, as OpenAI's has:
    the tests of streams themselves look at that."""
    told = {**data, "max_tokens": min(_LONGEST, data.get("max_tokens", _LONGEST))}
    usual = self.make_stream_request
    self.make_stream_request = lambda *which: map(_without_empty_text, usual(*which))
    try:
        return _usual_any(self, method, path, told, **more)
    finally:
        del self.make_stream_request


def _without_empty_text(event: Any) -> Any:
    for choice in event["choices"]:
        if "role" in choice["delta"] and not choice["delta"].get("content"):
            choice["delta"]["content"] = None
    return event


class _NoPatterns:
    """What tests that use `re` themselves find in its place."""

    @staticmethod
    def match(pattern: str, text: Any) -> bool:
        return isinstance(text, str)

    @staticmethod
    def sub(pattern: str, new: str, text: str) -> str:
        return text


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    chosen = {_without_model(item): item for item in reversed(items)}
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen.values()])
    items[:] = [item for item in items if item in chosen.values()]
    for item in items:
        if item.module.__name__.endswith("test_tool_call"):
            item.module.re = _NoPatterns


def _without_model(item: Any) -> str:
    params = getattr(item, "callspec", None) and item.callspec.params
    if not params or "hf_repo" not in params:
        return str(item.nodeid)
    rest = sorted((name, str(value)) for name, value in params.items() if name != "hf_repo")
    return f"{item.originalname} {rest}"


utils.ServerProcess.start = _start_or_reuse
utils.ServerProcess.make_any_request = _any_request
utils.ServerProcess.stop = lambda self: None
utils.ServerPreset.load_all = staticmethod(lambda: None)
utils.match_regex = lambda regex, text: isinstance(text, str)
requests.sessions.default_headers = _headers
openai.OpenAI.__init__ = _init


def pytest_sessionfinish() -> None:
    for server in _kept.values():
        _stop(server)
