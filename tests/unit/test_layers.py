"""One way through: ``ingress → schemas ← workers ← fallback``; `deploy` may import all of them."""

from __future__ import annotations

import ast
import importlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from schemas.bus import Bus
from schemas.errors import HeadraceError
from schemas.jetstream import words

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "schemas": {"schemas"},
    "ingress": {"ingress", "schemas"},
    "workers": {"workers", "schemas"},
    "fallback": {"fallback", "workers", "schemas"},
    "deploy": {"deploy", "fallback", "workers", "ingress", "schemas"},
}
OURS = {*MAY_IMPORT, "tests"}
BUS = {
    "schemas/bus.py",
    "schemas/client.py",
    "schemas/connecting.py",
    "schemas/websocket.py",
}
"""The bus, and its connection."""
_JETSTREAM = ("alarm", "idle", "streams", "pulls", "queues", "reading", "records", "snapshots")
BROKER = {*BUS, "schemas/tls.py", *(f"schemas/jetstream/{name}.py" for name in _JETSTREAM)}
"""All of the contract that speaks to the broker; the rest of it says what is to be said."""
WAITING_ALONE = {
    *("schemas/watched.py", "schemas/api/piecewise.py", "schemas/api/piecewise_write.py"),
}
"""What waits, and sends nothing."""
TELLING = "schemas/otel/telemetry.py"
"""What is told to OpenTelemetry's endpoint, by every kind of process."""
ESCAPES = "schemas/otel/options.py"
"""It reads texts that are escaped as in URLs."""
GRANTS = "deploy/nats/rights.py"
"""Who may ask JetStream what, as the broker is told."""
INPUT_OUTPUT = {
    "aiohttp", "ftplib", "httptools", "httpx", "http", "requests", "select", "selectors", "smtplib",
    "socket", "socketserver", "ssl", "starlette", "subprocess", "telnetlib", "urllib", "uvicorn",
}  # fmt: skip

SENDING = {
    "open_connection", "start_server", "create_connection", "create_server", "post",
    *(name for name, found in vars(Bus).items() if callable(found) and name[0] != "_"),
} - {"close", "flush"}  # fmt: skip
"""What opens a stream of bytes, and every method of the bus but those that files have, too."""
MACHINE = {
    f"ingress/jobs/{name}.py" for name in ("ticket", "custody", "state", "resume", "reorder")
}
WAITING = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)
API = ("$JS.API.", "STREAM.", "CONSUMER.")


@dataclass(frozen=True)
class Module:
    path: str
    tree: ast.Module

    @property
    def package(self) -> str:
        return self.path.partition("/")[0]

    @property
    def name(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    def imports(self) -> Iterator[str]:
        """Top-level names, wherever in the module they are imported."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{self.path}: a relative import"
                yield (node.module or "").partition(".")[0]


@cache
def modules(package: str) -> tuple[Module, ...]:
    files = sorted((ROOT / package).rglob("*.py"))
    return tuple(Module(str(f.relative_to(ROOT)), ast.parse(f.read_text())) for f in files)


def every() -> list[Module]:
    return [module for package in MAY_IMPORT for module in modules(package)]


def test_the_packages_are_found() -> None:
    assert {module.package for module in every()} >= {"schemas", "ingress", "workers", "deploy"}
    assert len(every()) > 40


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_follow_the_layers(package: str) -> None:
    wrong = {
        (module.path, name)
        for module in modules(package)
        for name in module.imports()
        if name in OURS - MAY_IMPORT[package]
    }
    assert not wrong


def test_only_the_bus_imports_the_brokers_client() -> None:
    importers = {module.path for module in every() if "nats" in module.imports()}
    assert importers == BUS


def sends_and_receives(module: Module) -> set[str]:
    """What in a module does input or output: it imports what can, waits for it, or has the bus."""
    found = {name for name in module.imports() if name in INPUT_OUTPUT}
    for node in ast.walk(module.tree):
        if isinstance(node, WAITING):
            found.add(type(node).__name__)
        elif isinstance(node, ast.Name) and node.id == "Bus":
            found.add("Bus")
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in SENDING:
            found.add(ast.unparse(node.func))
    return found


def test_the_contract_does_no_input_or_output_but_where_it_is_named_for_it() -> None:
    found = {module.path: sends_and_receives(module) for module in modules("schemas")}
    assert found.pop(ESCAPES) == {"urllib"}
    assert {path for path, what in found.items() if what} == {*BROKER, *WAITING_ALONE, TELLING}
    waits = {kind.__name__ for kind in WAITING}
    assert not {path for path in WAITING_ALONE if found[path] - waits}


@pytest.mark.parametrize(
    "line",
    [
        "bus.post('usage.in-1', b'')",
        "def read(bus: Bus) -> None: ...",
        "async def read(): ...",
        "heard = bus.subscribe('usage.*', print)",
        "import aiohttp",
        "asyncio.open_connection('127.0.0.1', 4222)",
    ],
)
def test_input_and_output_would_be_found(line: str) -> None:
    assert sends_and_receives(Module("schemas/usage.py", ast.parse(line)))


def test_only_jetstream_speaks_the_brokers_api() -> None:
    speakers = {
        module.path
        for module in every()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if node.value.startswith(API)
    }
    own = {f"schemas/jetstream/{name}.py" for name in ("streams", "snapshots")}
    assert speakers == {"schemas/bus.py", *own, GRANTS}


def test_the_words_of_an_ack_stand_in_one_place() -> None:
    said = {words.ACK, words.NAK, words.TERM, words.IN_PROGRESS, words.ACK_AND_ASK}
    speakers = {
        module.path
        for module in every()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and node.value in said
    }
    later = {"ingress/jobs/ticket.py"}
    assert speakers - later == {"schemas/jetstream/words.py"}


def raised(module: Module) -> set[str]:
    """Names of the classes (or makers of exceptions) that `module` raises."""
    found = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call | ast.Name):
            called = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            found.add(ast.unparse(called))
    return found


def told(module: Module) -> str:
    """All docstrings, the classes that have one, and what the except clauses catch."""
    texts = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node) or ""
            texts.append(
                f"{node.name}: {text}" if text and isinstance(node, ast.ClassDef) else text
            )
        elif isinstance(node, ast.ExceptHandler) and node.type is not None:
            texts.append(ast.unparse(node.type))
    return "\n".join(texts)


def resolve(module: Module, name: str) -> object:
    found: object = importlib.import_module(module.name)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def test_what_the_edge_raises_is_an_answer_or_documented(subtests: pytest.Subtests) -> None:
    for module in modules("ingress"):
        with subtests.test(module.path):
            wrong = []
            for name in raised(module):
                found = resolve(module, name)
                if not isinstance(found, type) or issubclass(found, HeadraceError):
                    continue
                if name.rpartition(".")[2] not in told(module):
                    wrong.append(name)
            assert not wrong, (
                f"neither a HeadraceError, nor caught here, nor in a docstring: {wrong}"
            )


def defined(module: Module) -> Iterator[str]:
    """Public names of a module, and of what its classes consist of but for methods."""
    classes = [node for node in module.tree.body if isinstance(node, ast.ClassDef)]
    for body in (module.tree.body, *(each.body for each in classes)):
        for node in body:
            match node:
                case ast.FunctionDef(name=name) if body is module.tree.body and name[0] != "_":
                    yield name
                case (
                    ast.ClassDef(name=name)
                    | ast.AnnAssign(target=ast.Name(id=name))
                    | ast.Assign(targets=[ast.Name(id=name)])
                ) if name[0] != "_":
                    yield name


def test_every_name_of_the_contract_has_a_user() -> None:
    """A word that nobody says or heeds is no part of it."""
    texts = [(ROOT / module.path).read_text() for module in every()]
    used = Counter(word for text in texts for word in re.findall(r"\w+", text))
    unused = {(m.path, name) for m in modules("schemas") for name in defined(m) if used[name] < 2}
    assert not unused


def test_the_machine_of_a_ticket_is_pure() -> None:
    """It can be run without a loop, a clock or a broker, and be copied."""
    found = [module for module in modules("ingress") if module.path in MACHINE]
    assert len(found) == len(MACHINE)
    for module in found:
        assert sends_and_receives(module) <= {"urllib"}, "whose parse is pure, too"
        assert not {"asyncio", "time", "structlog"} & set(module.imports())
