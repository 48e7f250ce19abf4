"""The suites that are run: what each is made of, what of it is run, and how it is told where."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.surface.servers import template
from tests.clients.install import Packages
from tests.fabric import KEY
from tests.suites.sources import CACHE, Source

PLUGINS = Path(__file__).parent / "plugins"
MODEL = "small"
_COMMON = ("--temp", "0", "--parallel", "4", "--ctx-size", "16384", "--metrics")
_TOOLS = template("tools.jinja", MODEL)
_TOOLS = ["--chat-template-file", *_TOOLS[1:]]
CHAT = (*_COMMON, "--jinja", *_TOOLS, "--n-predict", "32")
"""The quickstart's model with a template that knows tools, and no answer without an end."""
BRIEF = (*_COMMON, "--jinja", *_TOOLS, "--n-predict", "16")
EMBED = ("--alias", MODEL, "--embedding", "--parallel", "4", "--ctx-size", "2048")

Env = Callable[[str], Mapping[str, str]]


def _env(url: str) -> dict[str, str]:
    """What clients read of where to ask."""
    return {
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_API_BASE": f"{url}/v1",
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_URL": url,
    }


def _openai_env(url: str) -> dict[str, str]:
    return {"TEST_API_BASE_URL": f"{url}/v1"}


def _anthropic_env(url: str) -> dict[str, str]:
    return {"TEST_API_BASE_URL": url}


@dataclass(frozen=True, slots=True)
class Part:
    """`tests`: files in the folder of the source, or for npm the words of the command; `{url}` is
    replaced. `server`: flags of what they ask, or none if they start it. `options`: pytest's."""

    tests: tuple[str, ...]
    server: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    env: Env = _env
    plugins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Suite:
    title: str
    packages: Packages
    parts: tuple[Part, ...]
    source: Source | None = None
    folder: str = "."
    """In the source: where its tests are run."""
    left: str = ""
    """What of it is not run, and why."""

    def version(self) -> str:
        return self.source.version() if self.source else self.packages.versions().split()[-1]

    def where(self) -> Path:
        return self.source.folder / self.folder if self.source else self.packages.folder

    def install(self) -> None:
        self.packages.install()
        if self.source:
            self.source.get()


def _python(*names: str) -> Packages:
    return Packages("pip", (*names, "pytest", "pytest-timeout"), CACHE)


def _units(*names: str) -> tuple[str, ...]:
    return tuple(f"unit/test_{name}.py" for name in names)


_RESOURCES = "tests/api_resources"
_LANGCHAIN = ("pytest-asyncio", "pytest-mock", "syrupy", "freezegun", "pytest-recording", "pillow")
_LIVE = (
    "--disable-recording",
    "-p",
    "no:pytest-retry",
    "-p",
    "no:benchmark",
    "-m",
    "not scheduled",
)
_LLAMACPP = _python(
    *("requests", "openai", "filelock", "wget", "numpy", "prometheus-client", "aiohttp")
)
_LLAMACPP_SOURCE = Source("llama-cpp-python", ("tools/server/tests", "llama.cpp/models/templates"))
_LLAMACPP_FOLDER = "vendor/llama.cpp/tools/server/tests"

SUITES = {
    "llama.cpp": Suite(
        "llama.cpp, `tools/server/tests`",
        _LLAMACPP,
        (
            Part(
                _units(
                    *("chat_completion", "compat_anthropic", "compat_oai_responses"),
                    *("completion", "embedding", "rerank", "security", "vision_api"),
                    *("ctx_shift", "ignore_eos", "template", "tokenize"),
                ),
                options=("-m", "not slow"),
                plugins=("llamacpp_plugin",),
            ),
        ),
        _LLAMACPP_SOURCE,
        _LLAMACPP_FOLDER,
        "the tests of `/infill`, whose model cannot be had there "
        "(`tests/acceptance/test_infill.py` asks the quickstart's), and of `/metrics`, `/slots` "
        "and `/predict`, and of how one server is "
        "started (its flags, router, LoRA, MCP servers, its own tools, sleep, speculation, its "
        "proxy): they ask an engine for what a fabric of many engines has no word for",
    ),
    "llama.cpp-tools": Suite(
        "llama.cpp, its tests of tools",
        _LLAMACPP,
        (Part(_units("tool_call"), plugins=("llamacpp_plugin",)),),
        _LLAMACPP_SOURCE,
        _LLAMACPP_FOLDER,
        "of the tests that differ in the name of the model alone, all but one for each template, "
        "since the model is the same one here. Each answer ends after 64 tokens",
    ),
    "openai": Suite(
        "openai-python, its own tests",
        _python("openai[aiohttp]", "pytest-asyncio", "pytest-xdist", "respx", "inline-snapshot"),
        (
            Part(
                (
                    f"{_RESOURCES}/chat/test_completions.py",
                    f"{_RESOURCES}/test_completions.py",
                    f"{_RESOURCES}/test_models.py",
                    f"{_RESOURCES}/test_responses.py",
                    f"{_RESOURCES}/responses/test_input_tokens.py",
                ),
                BRIEF,
                env=_openai_env,
            ),
            Part((f"{_RESOURCES}/test_embeddings.py",), EMBED, env=_openai_env),
        ),
        Source("openai"),
        left="the endpoints that neither side has, and the tests that bring a double of their own",
    ),
    "anthropic": Suite(
        "anthropic-sdk-python, its own tests",
        _python(
            *("anthropic[aiohttp]", "pytest-asyncio", "pytest-xdist", "respx", "inline-snapshot"),
            *("http-snapshot[httpx]", "time-machine", "dirty-equals", "boto3", "griffe"),
        ),
        (
            Part(
                (
                    f"{_RESOURCES}/test_messages.py",
                    f"{_RESOURCES}/test_models.py",
                    f"{_RESOURCES}/beta/test_messages.py",
                ),
                BRIEF,
                env=_anthropic_env,
            ),
        ),
        Source("anthropic"),
        left="the endpoints that neither side has, and the tests that bring a double of their own",
    ),
    "langchain-openai": Suite(
        "LangChain: `langchain-tests` and the integration tests of langchain-openai",
        _python("langchain-openai", "langchain", "langchain-tests", *_LANGCHAIN),
        (
            Part(
                tuple(
                    f"tests/integration_tests/chat_models/test_{name}.py"
                    for name in ("base_standard", "responses_standard")
                ),
                CHAT,
                _LIVE,
            ),
            Part(("tests/integration_tests/embeddings/test_base_standard.py",), EMBED, _LIVE),
        ),
        Source("langchain-openai"),
        left="those of OpenAI's own tools and models, and Azure's",
    ),
    "langchain-anthropic": Suite(
        "LangChain: `langchain-tests` and the integration tests of langchain-anthropic",
        _python("langchain-anthropic", "langchain", "langchain-tests", *_LANGCHAIN),
        (
            Part(
                ("tests/integration_tests/test_standard.py",),
                CHAT,
                _LIVE,
                plugins=("langchain_plugin",),
            ),
        ),
        Source("langchain-anthropic"),
        left="those of Anthropic's own tools and models",
    ),
    "instructor": Suite(
        "instructor, its own tests of OpenAI and Anthropic",
        _python("instructor[anthropic]", "pytest-asyncio", "python-dotenv", "pillow"),
        (
            Part(
                tuple(
                    f"tests/llm/test_{name}" for name in ("openai", "anthropic", "core_providers")
                ),
                (*CHAT, "--parallel", "2", "--ctx-size", "1536", "--n-predict", "96"),
                ("--ignore-glob", "*multimodal*"),
            ),
        ),
        Source("instructor"),
        left="pictures and files, which it gets from the internet",
    ),
    "compatcanary": Suite(
        "CompatCanary",
        Packages("npm", ("compatcanary",), CACHE),
        (
            Part(
                (
                    *("node", "node_modules/compatcanary/src/cli.js", "scan", "--base-url"),
                    *("{url}/v1", "--model", MODEL, "--profile", "modern", "--format", "json"),
                    *("--timeout", "300", "--fail-on", "never"),
                ),
                CHAT,
            ),
        ),
    ),
}
