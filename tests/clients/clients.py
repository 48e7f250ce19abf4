"""The clients that are run: what each is made of, and what it is asked to do.

The settings that a user writes stand in `docs/clients.md`, as here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.clients.caller import DOCUMENT, Plan
from tests.clients.dialects import Call
from tests.clients.install import Packages

MARK = "mark-4711"
"""What a tool says, and what an agent has to repeat."""
TASK = f"Run echo {MARK} and tell me what it printed"
BRIEF = "You run commands and tell what they print."
FEW = 120
"""Tokens of an answer of a model that is slow, and left alone goes on for ever."""
_CONTEXT, _SMALL = 8192, 768
"""Tokens that a real engine has for a question and its answer. In the small one an answer ends
whatever limit a library has by itself: some say 64,000, and llama-server's own limit
(`--n-predict`) is only for those that say nothing."""
PROGRAMS = Path(__file__).parent / "programs"
_WEATHER = Plan((Call("get_weather", {"city": "Oslo"}),))


@dataclass(frozen=True, slots=True)
class Where:
    """Where a client asks. `url`: without a path. `embedder`: a model for embeddings, or nothing.
    `folder`: the client's own, empty at first, which it is run in. `short`: agents are to send as
    little as they can, for a slow model."""

    url: str
    key: str
    model: str
    embedder: str
    folder: Path
    short: bool = False

    @property
    def v1(self) -> str:
        return self.url + "/v1"

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@dataclass(frozen=True, slots=True)
class Command:
    """`step`: what it does, if it does one thing; else it prints its steps as JSON. `file`: what
    it has to have changed."""

    line: tuple[str | Path, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    step: str = ""
    file: str = ""


@dataclass(frozen=True, slots=True)
class Client:
    packages: Packages
    commands: Callable[[Path, Where], list[Command]]
    plan: Plan
    context: int = _CONTEXT


def _agent(step: str, *line: str | Path, **env: str) -> list[Command]:
    return [Command(line, env, step)]


def _claude(installed: Path, where: Where) -> list[Command]:
    program = installed / "node_modules/@anthropic-ai/claude-code/cli-wrapper.cjs"
    quiet = dict.fromkeys(("DISABLE_TELEMETRY", "DISABLE_ERROR_REPORTING"), "1")
    own = {"ANTHROPIC_BASE_URL": where.url, "ANTHROPIC_API_KEY": where.key}
    # An answer that reaches the limit is a fault to it.
    own |= {"CLAUDE_CODE_MAX_OUTPUT_TOKENS": "1000"} if where.short else {}
    short = ("--bare", "--system-prompt", BRIEF, "--tools", "Bash") if where.short else ()
    line = ("node", program, *short, "-p", TASK, "--allowedTools", "Bash")
    return _agent("a command, by the tool Bash", *line, DISABLE_AUTOUPDATER="1", **quiet, **own)


_CODEX = """\
model = "{model}"
model_provider = "headrace"

[model_providers.headrace]
name = "Headrace"
base_url = "{v1}"
env_key = "HEADRACE_KEY"
wire_api = "responses"
"""


def _codex(installed: Path, where: Where) -> list[Command]:
    where.write("home/.codex/config.toml", _CODEX.format(model=where.model, v1=where.v1))
    where.write("brief.md", BRIEF)
    own = ("-c", 'model_instructions_file="brief.md"') if where.short else ()
    line = (installed / "node_modules/.bin/codex", "exec", "--skip-git-repo-check", *own, TASK)
    return _agent("a command, by the tool exec_command", *line, HEADRACE_KEY=where.key)


def _opencode(installed: Path, where: Where) -> list[Command]:
    options = {"baseURL": where.v1, "apiKey": "{env:HEADRACE_KEY}"}
    provider = {"npm": "@ai-sdk/openai-compatible", "name": "Headrace", "options": options}
    few = {"limit": {"context": 8192, "output": FEW}} if where.short else {}
    config = {
        "$schema": "https://opencode.ai/config.json",
        "model": f"headrace/{where.model}",
        "provider": {"headrace": {**provider, "models": {where.model: few}}},
    }
    if where.short:
        config["agent"] = {"build": {"prompt": BRIEF, "tools": {"*": False, "bash": True}}}
    where.write("opencode.json", json.dumps(config))
    line = (installed / "node_modules/opencode-linux-x64/bin/opencode", "run", TASK)
    return _agent("a command, by the tool bash", *line, HEADRACE_KEY=where.key)


def _cline(installed: Path, where: Where) -> list[Command]:
    program = installed / "node_modules/.bin/cline"
    short = ("-s", BRIEF) if where.short else ()
    own = ("-p", "openai-compatible", "-k", where.key, "-m", where.model, "-b", where.v1)
    return [
        Command((program, "auth", *own), {}, "auth"),
        Command((program, *short, TASK), {}, "a command, by the tool run_commands"),
    ]


_CONTINUE = """\
name: Headrace
version: 1.0.0
schema: v1
models:
  - name: headrace
    provider: openai
    model: {model}
    apiBase: {v1}
    apiKey: {key}
    roles: [chat, edit, apply]
    capabilities: [tool_use]
"""


def _continue(installed: Path, where: Where) -> list[Command]:
    text = _CONTINUE.format(model=where.model, v1=where.v1, key=where.key)
    where.write("config.yaml", text)
    line = (installed / "node_modules/.bin/cn", "--config", "config.yaml", "--auto", "-p", TASK)
    return _agent("a command, by the tool Bash", *line, CONTINUE_TELEMETRY_ENABLED="0")


_EDIT = f"""\
hello.py
```
print("{MARK}")
```
"""


def _aider(installed: Path, where: Where) -> list[Command]:
    where.write("hello.py", 'print("hello")\n')
    options = ("--yes-always", "--no-git", "--no-analytics", "--no-check-update", "hello.py")
    kept = ("--chat-history-file", "chat.md", "--input-history-file", "input.txt")
    line = (installed / "bin/aider", "--model", f"openai/{where.model}", "--message", TASK)
    env = {"OPENAI_API_BASE": where.v1, "OPENAI_API_KEY": where.key}
    return [Command((*line, *kept, *options), env, "an edit of a file", "hello.py")]


_LLM = """\
- model_id: headrace
  model_name: {model}
  api_base: {v1}
  api_key_name: headrace
  supports_tools: true
  supports_schema: true
"""
_FUNCTION = (
    f'def get_weather(city: str) -> str:\n    "The weather"\n    return "{MARK} in " + city\n'
)


def _llm(installed: Path, where: Where) -> list[Command]:
    text = _LLM.format(model=where.model, v1=where.v1)
    where.write("home/.config/io.datasette.llm/extra-openai-models.yaml", text)
    line = (installed / "bin/llm", "-m", "headrace", "--key", where.key)
    ask = "What is the weather in Oslo?"
    return [
        Command((*line, ask), {}, "streamed, words"),
        Command((*line, "--no-stream", ask), {}, "whole, words"),
        Command((*line, "--functions", _FUNCTION, ask), {}, "a tool"),
        Command((*line, "--schema", "city, degrees int", ask), {}, "a schema, words"),
    ]


def _program(name: str) -> Callable[[Path, Where], list[Command]]:
    """A program of this folder with a library; it lies where the library is found."""

    def commands(installed: Path, where: Where) -> list[Command]:
        shared = f"steps{Path(name).suffix}"
        for each in (name, shared):
            (installed / each).write_text((PROGRAMS / each).read_text())
        run = "node" if name.endswith(".mjs") else installed / "bin/python"
        env = {
            "HEADRACE_URL": where.url,
            "HEADRACE_KEY": where.key,
            "HEADRACE_MODEL": where.model,
            "HEADRACE_EMBEDDER": where.embedder,
            "HEADRACE_MARK": MARK,
        }
        return [Command((run, installed / name), env)]

    return commands


def _npm(*names: str) -> Packages:
    return Packages("npm", names)


def _pip(*names: str) -> Packages:
    return Packages("pip", names)


def _library(
    packages: Packages, program: str, plan: Plan = _WEATHER, context: int = _CONTEXT
) -> Client:
    return Client(packages, _program(program), plan, context)


def _runs(tool: str, **arguments: object) -> Plan:
    return Plan((Call(tool, arguments),))


_JSON = Plan(text=f"```json\n{json.dumps(DOCUMENT)}\n```")
_ECHO = f"echo {MARK}"
CLIENTS: Mapping[str, Client] = {
    "claude-code": Client(
        _npm("@anthropic-ai/claude-code"), _claude, _runs("Bash", command=_ECHO, description="It")
    ),
    "codex": Client(_npm("@openai/codex"), _codex, _runs("exec_command", cmd=_ECHO)),
    "opencode": Client(
        _npm("opencode-ai"), _opencode, _runs("bash", command=_ECHO, description="It")
    ),
    "cline": Client(_npm("cline"), _cline, _runs("run_commands", commands=[_ECHO])),
    "continue": Client(_npm("@continuedev/cli"), _continue, _runs("Bash", command=_ECHO)),
    "aider": Client(_pip("aider-chat"), _aider, Plan(text=_EDIT)),
    "llm": Client(_pip("llm"), _llm, _WEATHER),
    "openai-python": _library(_pip("openai"), "openai_python.py"),
    "openai-node": _library(_npm("openai", "zod"), "openai_node.mjs"),
    "anthropic-python": _library(_pip("anthropic"), "anthropic_python.py"),
    "anthropic-node": _library(_npm("@anthropic-ai/sdk", "zod"), "anthropic_node.mjs"),
    "ai-sdk": _library(
        _npm("ai", "@ai-sdk/openai", "@ai-sdk/openai-compatible", "@ai-sdk/anthropic", "zod"),
        "ai_sdk.mjs",
        context=_SMALL,
    ),
    "langchain-python": _library(
        _pip("langchain-openai", "langchain-anthropic"), "langchain_python.py", context=_SMALL
    ),
    "langchain-node": _library(
        _npm("@langchain/openai", "@langchain/anthropic", "@langchain/core", "zod"),
        "langchain_node.mjs",
        context=_SMALL,
    ),
    "llamaindex": _library(
        _pip("llama-index-llms-openai-like", "llama-index-llms-openai"),
        "llamaindex_python.py",
    ),
    "openai-agents-python": _library(_pip("openai-agents"), "agents_python.py"),
    "openai-agents-node": _library(_npm("@openai/agents", "openai", "zod"), "agents_node.mjs"),
    "litellm": _library(_pip("litellm"), "litellm_python.py", context=_SMALL),
    "instructor": _library(_pip("instructor", "anthropic"), "instructor_python.py", _JSON),
    "pydantic-ai": _library(
        _pip("pydantic-ai-slim[openai,anthropic]"), "pydantic_ai_python.py", context=_SMALL
    ),
}
