"""The command and the program that the playground shows send what the playground sent."""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai import OpenAI

from deploy.console.pages import asked, snippets
from deploy.console.pages.asked import Asked, File, Inline, Turn
from schemas import multipart
from schemas.api import sse
from schemas.api.endpoints import CHAT, IMAGES

SECRET = "sk-of-the-environment"
_ANSWERS = {
    CHAT.path: (sse.CONTENT_TYPE, sse.dump({"id": "1", "choices": []}) + sse.DONE),
    IMAGES.path: ("application/json", orjson.dumps({"created": 1, "data": []})),
}
_HEARD = ("application/json", orjson.dumps({"text": "heard"}))


class _Recorder(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[tuple[str, Any, str]]] = []
    """(path, body, key)."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        kind = self.headers["content-type"]
        said: Any = orjson.loads(body) if kind == "application/json" else _form(body, kind)
        self.seen.append((self.path, said, self.headers["authorization"]))
        media, answer = _ANSWERS.get(self.path, _HEARD)
        self.send_response(200)
        self.send_header("content-type", media)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None: ...


def _form(body: bytes, content_type: str) -> dict[str, tuple[str | None, bytes]]:
    """By name: (filename, content)."""
    return {
        part.name: (part.filename, part.content) for part in multipart.parse(body, content_type)
    }


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Recorder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.sampled_from(
    ["JSON\nJSON\n", "'", '"', "\\", "$HOME `id` $(id)", "!!", "@file", "<file", "-x", "\0\x1b[2J"]
)
_names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def _files(draw: st.DrawFn, known: dict[str, str]) -> File:
    name = f"{draw(_names)}.{draw(st.sampled_from(sorted(known)))}"
    return asked.taken(name, draw(st.binary(min_size=1, max_size=200)), known)


@st.composite
def _chats(draw: st.DrawFn) -> Asked:
    known = {**asked.PICTURES, **asked.SOUNDS}
    files = tuple(draw(st.lists(_files(known), max_size=2, unique_by=lambda file: file.name)))
    more = {
        "temperature": draw(st.floats(0, 2)),
        "seed": draw(st.integers(0, 2**31)),
        "top_k": draw(st.integers(0, 99)),
        "chat_template_kwargs": draw(st.dictionaries(_names, _values, max_size=2)),
    }
    kept = draw(st.sets(st.sampled_from(sorted(more))))
    turns = [Turn("user", draw(_texts)), Turn("assistant", draw(_texts))]
    turns.append(Turn("user", draw(_texts), files))
    return asked.chat(draw(_names), draw(_texts), turns, {name: more[name] for name in kept})


@st.composite
def _sounds(draw: st.DrawFn) -> Asked:
    plain = _texts.map(lambda text: text.replace("\0", ""))  # a form's text has none
    return asked.transcription(
        draw(_names).replace("\0", "").strip() or "whisper",
        draw(_files(dict(asked.HEARD))),
        prompt=draw(plain),
        language=draw(st.sampled_from(["", "de"])),
        translated=draw(st.booleans()),
    )


_pictures = st.builds(
    asked.picture,
    _names,
    _texts.filter(str.strip),
    st.fixed_dictionaries({}, optional={"size": st.just("64x64"), "seed": st.integers(0, 9)}),
)
_quick = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def _laid(said: Asked, folder: Path) -> None:
    """Put the files of a request where its snippets look for them."""

    def lay(value: Any) -> None:
        if isinstance(value, Inline):
            lay(value.file)
        elif isinstance(value, File):
            (folder / value.name).write_bytes(value.content)
        elif isinstance(value, dict | list):
            for each in value.values() if isinstance(value, dict) else value:
                lay(each)

    lay(said.file)
    lay(dict(said.body))


def _expected(said: Asked) -> tuple[str, Any, str]:
    key = f"Bearer {SECRET}"
    if said.file is None:
        return said.path, said.document(), key
    fields = {name: (None, str(text).encode()) for name, text in said.body.items()}
    return said.path, {**fields, "file": (said.file.name, said.file.content)}, key


def _run_curl(said: Asked, address: str, folder: Path) -> None:
    subprocess.run(
        ["sh", "-c", snippets.curl(said, address)],
        env={"PATH": os.environ["PATH"], snippets.VARIABLE: SECRET},
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=60,
    )


def _run_python(said: Asked, address: str, folder: Path) -> None:
    code = compile(snippets.python(said, address), "snippet", "exec")
    made: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        patch.setenv(snippets.VARIABLE, SECRET)
        with contextlib.redirect_stdout(io.StringIO()):
            exec(code, made)
    made["client"].close()


@given(said=_chats() | _sounds() | _pictures)
@_quick
def test_the_command_sends_what_was_sent(said: Asked, address: str, folder: Path) -> None:
    _laid(said, folder)
    _Recorder.seen.clear()
    _run_curl(said, address, folder)
    assert _Recorder.seen == [_expected(said)]
    assert SECRET not in snippets.curl(said, address)


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # OpenAI's translations
@given(said=_chats() | _sounds() | _pictures)
@_quick
def test_the_program_sends_what_was_sent(said: Asked, address: str, folder: Path) -> None:
    _laid(said, folder)
    _Recorder.seen.clear()
    _run_python(said, address, folder)
    assert _Recorder.seen == [_expected(said)]


def test_a_large_picture_is_no_argument_of_the_command(address: str, folder: Path) -> None:
    """A shell takes no argument of more than 128 KiB."""
    photo = asked.taken("holiday photo.png", os.urandom(2**20), asked.PICTURES)
    said = asked.chat("m", "", [Turn("user", "What is this?", (photo,))])
    _laid(said, folder)
    _Recorder.seen.clear()
    _run_curl(said, address, folder)
    assert _Recorder.seen == [_expected(said)]
    assert len(snippets.curl(said, address)) < 1000


@pytest.mark.parametrize("path", snippets.KNOWN)
def test_openais_client_has_the_parameters(path: str) -> None:
    method, known = snippets.KNOWN[path]
    found: Any = OpenAI(api_key="none")
    for name in method.split("."):
        found = getattr(found, name)
    assert known <= inspect.signature(found).parameters.keys()
