"""What the playground has just sent, as a command and as a program that send the same. Neither has
the key: both read it from the environment, as OpenAI's clients do. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from deploy.console.pages.asked import Asked, Inline
from schemas.api.endpoints import CHAT, IMAGES, TRANSCRIPTIONS, TRANSLATIONS

VARIABLE = "OPENAI_API_KEY"
KNOWN: Mapping[str, tuple[str, frozenset[str]]] = {
    CHAT.path: (
        "chat.completions.create",
        frozenset(
            [
                *("model", "messages", "stream", "stream_options", "max_tokens", "temperature"),
                *("max_completion_tokens", "top_p", "seed", "reasoning_effort", "stop", "n"),
                *("presence_penalty", "frequency_penalty", "logprobs", "response_format"),
                *("tools", "tool_choice"),
            ]
        ),
    ),
    IMAGES.path: (
        "images.generate",
        frozenset(["model", "prompt", "n", "size", "response_format", "quality", "output_format"]),
    ),
    TRANSCRIPTIONS.path: (
        "audio.transcriptions.create",
        frozenset(["model", "language", "prompt", "response_format", "temperature"]),
    ),
    TRANSLATIONS.path: (
        "audio.translations.create",
        frozenset(["model", "prompt", "response_format", "temperature"]),
    ),
}
"""By path: the method of OpenAI's client, and parameters that it has. What it does not have goes
into its `extra_body`."""
_READ = {
    CHAT.path: [
        "for chunk in answer:",
        "    for choice in chunk.choices:",
        '        print(choice.delta.content or "", end="", flush=True)',
    ],
    IMAGES.path: [
        "for number, picture in enumerate(answer.data):",
        '    Path(f"picture-{number}.png").write_bytes(base64.b64decode(picture.b64_json))',
    ],
}
_SHOW = ["print(answer.text)"]
_STEP, _PYTHON = 2, 4
"""Spaces by which what lies within is moved in, in JSON and in Python."""
_WIDE = 80
"""Letters of a line, roughly."""
Leaf = Callable[[Any], str]


def curl(asked: Asked, address: str) -> str:
    """Lines for a POSIX shell. `address`: the ingress's, without a path."""
    head = [
        f"curl -N {shlex.quote(address + asked.path)}",
        f'-H "Authorization: Bearer ${VARIABLE}"',
    ]
    if asked.file is not None:
        # --form-string: curl takes a value that begins with @ or < for the name of a file.
        fields = (shlex.quote(f"{name}={_field(value)}") for name, value in asked.body.items())
        upload = shlex.quote(f"file=@{asked.file.name};type={asked.file.type}")
        return _joined([*head, *(f"--form-string {each}" for each in fields), f"-F {upload}"])
    inlined = _inlined(asked.body)
    mark = "JSON" if inlined else "'JSON'"
    text = _written(asked.body, _substituted if inlined else _json)
    sent = ['-H "Content-Type: application/json"', f"--data-binary @- <<{mark}"]
    return f"{_joined([*head, *sent])}\n{text}\nJSON"


def python(asked: Asked, address: str) -> str:
    """A program that uses OpenAI's client."""
    method, known = KNOWN[asked.path]
    said = {name: value for name, value in asked.body.items() if name in known}
    rest = {name: value for name, value in asked.body.items() if name not in known}
    arguments = [f"{name}={_written(value, _literal, 1, _PYTHON)}" for name, value in said.items()]
    if asked.file is not None:
        name, kind = asked.file.name, asked.file.type
        arguments.append(f'file=("{name}", Path("{name}").read_bytes(), "{kind}")')
    if rest:
        arguments.append(f"extra_body={_written(rest, _literal, 1, _PYTHON)}")
    return "\n".join(
        [
            *_imports(asked),
            "from openai import OpenAI",
            "",
            f"client = OpenAI(base_url={_literal(address + '/v1')})  # the key is in ${VARIABLE}",
            f"answer = client.{method}(",
            *(f"    {each}," for each in arguments),
            ")",
            *_READ.get(asked.path, _SHOW),
        ]
    )


def _imports(asked: Asked) -> list[str]:
    inlined = _inlined(asked.body)
    if asked.path == IMAGES.path or inlined:
        return ["import base64", "from pathlib import Path", ""]
    return ["from pathlib import Path", ""] if asked.file is not None else []


def _inlined(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_inlined, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_inlined, value))
    return isinstance(value, Inline)


def _joined(parts: list[str]) -> str:
    return " \\\n  ".join(parts)


def _written(value: Any, leaf: Leaf, depth: int = 0, step: int = _STEP) -> str:
    """`value` as JSON and Python both write lists and objects; over several lines where one would
    be long. `depth`: how often it is moved in already."""
    if isinstance(value, Mapping) and value:
        ends = "{}"
        parts = [(f"{leaf(name)}: ", each) for name, each in value.items()]
    elif isinstance(value, list | tuple) and value:
        ends = "[]"
        parts = [("", each) for each in value]
    else:
        return leaf(value)
    inner = [head + _written(each, leaf, depth + 1, step) for head, each in parts]
    line = ends[0] + ", ".join(inner) + ends[1]
    if depth and len(line) + step * depth <= _WIDE and "\n" not in line:
        return line
    before, end = "\n" + " " * step * (depth + 1), "\n" + " " * step * depth
    return ends[0] + before + f",{before}".join(inner) + end + ends[1]


def _json(value: Any) -> str:
    """Letters that a terminal does not show as they are stand there by their numbers."""
    text = json.dumps(value, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)


def _substituted(value: Any) -> str:
    """For a text in which the shell puts the bytes of files."""
    if isinstance(value, Inline):
        read = f"$(base64 < {shlex.quote(value.file.name)} | tr -d '\\n')"
        return f'"{value.head}{read}"'
    return _json(value).replace("\\", "\\\\").replace("$", "\\$").replace("`", "\\`")


def _literal(value: Any) -> str:
    if isinstance(value, Inline):
        name = value.file.name
        read = f'base64.b64encode(Path("{name}").read_bytes()).decode()'
        return f'"{value.head}" + {read}' if value.whole else read
    plain = isinstance(value, str) and value.isprintable()
    return json.dumps(value, ensure_ascii=False) if plain else repr(value)


def _field(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
