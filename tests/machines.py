"""Two machines with a network link between them, for tests of what joins from elsewhere.

Each is a network namespace of its own: own addresses, own loopback, own listening ports, and a home
directory that the other does not know. The link is a pair of virtual interfaces that can be cut.
Namespaces need a right that not everybody has: without it the two share this machine's network,
have another address of loopback each, and their link cannot be cut; `Link.real` says so.
"""

from __future__ import annotations

import functools
import ipaddress
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.acceptance.headrace_up import HEADRACE, PATIENCE, Running, environment
from workers.process import die_with_parent, ports

NETWORK = "10.77.0"
"""The hub is .1, the other .2: addresses of this link alone, known outside of neither."""
_LISTENS = "0A"
"""The state TCP_LISTEN in /proc/net/tcp."""


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any
    headers: Mapping[str, str]


@dataclass
class Machine:
    """`address`: where the other machine reaches this one. `holder`: the process whose network it
    has; 0 for this machine's own."""

    name: str
    address: str
    home: Path
    holder: int = 0
    key: str = ""
    """An API key for `ask`."""
    port: int = 8080
    _running: list[Running] = field(default_factory=list)

    @property
    def data(self) -> Path:
        """Where Headrace lives when nobody names a directory."""
        return self.home / ".local" / "share" / "headrace"

    def headrace(self, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """One command, run to its end."""
        return self.run(*HEADRACE, *arguments, **more)

    def run(
        self, *command: str, say: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """`say`: what the command reads."""
        return subprocess.run(
            self.inside(command),
            input=say,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env=self.environment | variables,
            cwd=self.home,
            check=False,
        )

    def start(self, *arguments: str, **variables: str) -> Running:
        """``headrace ARGUMENTS`` that goes on; it is reaped with the machine."""
        made = Running(
            die_with_parent.wrap([*self.inside((*HEADRACE, *arguments))]),
            self.environment | variables,
            self.home,
        )
        self._running.append(made)
        return made

    def paste(self, lines: str, **variables: str) -> str:
        """What these lines of a shell print; they are to succeed."""
        ran = self.run("bash", "-euc", lines, **variables)
        assert ran.returncode == 0, f"{lines}\n{ran.stdout}\n{ran.stderr}"
        return ran.stdout

    def curl(self, path: str, body: object = None, **headers: str) -> list[str]:
        """The command that asks this machine's ingress; headers with _ for -."""
        asked = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        asked |= {name.replace("_", "-"): value for name, value in headers.items()}
        told = [part for each in asked.items() for part in ("-H", ": ".join(each))]
        data = ["--data-binary", json.dumps(body)] if body is not None else []
        return ["curl", "-sSN", f"http://127.0.0.1:{self.port}{path}", *told, *data]

    def ask(self, path: str, body: object = None, **headers: str) -> Answer:
        """Ask this machine's ingress."""
        wanted = "%{stderr}%{http_code} %{header_json}"
        ran = self.run(*self.curl(path, body, **headers), "-w", wanted)
        status, _, told = ran.stderr.partition(" ")
        assert ran.returncode == 0, f"{path}: {ran.stderr}"
        named = {name.lower(): values[-1] for name, values in json.loads(told).items()}
        return Answer(int(status), json.loads(ran.stdout), named)

    def chat(self, text: str = "Why is it so?", model: str = "echo", **headers: str) -> Answer:
        body = {"model": model, "messages": [{"role": "user", "content": text}]}
        return self.ask("/v1/chat/completions", body, **headers)

    @contextmanager
    def streamed(self, text: str, model: str = "echo", **headers: str) -> Iterator[Iterator[str]]:
        """The lines of a streamed chat, as they come."""
        body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": True}
        command = self.inside(self.curl("/v1/chat/completions", body, **headers))
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=self.environment
        ) as it:
            assert it.stdout
            yield it.stdout
            it.kill()

    def listened(self) -> set[str]:
        """The addresses beyond loopback, with their ports, on which something of this machine can
        be reached."""
        found = set()
        for line in [*self._table("tcp"), *self._table("tcp6")]:
            address, state = line.split()[1], line.split()[3]
            if state == _LISTENS and not (place := _address(address)).startswith(("127.", "::1")):
                found.add(place)
        return found

    def _table(self, name: str) -> list[str]:
        path = Path(f"/proc/{self.holder or 'self'}/net/{name}")
        return path.read_text().splitlines()[1:]

    def inside(self, command: tuple[str, ...] | list[str]) -> list[str]:
        """The command, in this machine's network."""
        if not self.holder:
            return [*command]
        return [_tool("nsenter"), f"--net=/proc/{self.holder}/ns/net", "--", *command]

    @property
    def environment(self) -> dict[str, str]:
        private = {"XDG_DATA_HOME", "XDG_CONFIG_HOME"}
        ours = {name: value for name, value in environment().items() if name not in private}
        return {**ours, "HOME": str(self.home)}

    def reap(self) -> None:
        for each in self._running:
            each.reap()


@dataclass(frozen=True)
class Link:
    """`real`: whether the machines have networks of their own, and a link that can be cut."""

    real: bool
    ends: tuple[Machine, Machine]

    def cut(self) -> None:
        """Nothing passes either way, and nobody is told."""
        self._set("down")

    def heal(self) -> None:
        self._set("up")

    def _set(self, state: str) -> None:
        assert self.real
        _ip(self.ends[0], "link", "set", "link0", state)


@contextmanager
def two_machines(home: Path) -> Iterator[tuple[Machine, Machine, Link]]:
    """The hub, another machine, and the link between them, until the block is left."""
    with ExitStack() as stack:
        real = are_permitted()
        network = NETWORK if real else "127.77.0"
        made = []
        for number, name in enumerate(("hub", "other"), 1):
            place = home / name
            place.mkdir()
            holder = stack.enter_context(_network()) if real else 0
            made.append(Machine(name, f"{network}.{number}", place, holder))
            stack.callback(made[-1].reap)
        hub, other = made
        if real:
            _join(hub, other)
        else:
            hub.port = ports.free()  # nothing here is theirs alone
            print("NO NETWORK NAMESPACES: two addresses of loopback stand in for two machines")
        yield hub, other, Link(real, (hub, other))


@functools.cache
def are_permitted() -> bool:
    """Whether this user may make networks."""
    tools = ("ip", "nsenter", "unshare")
    if not all(shutil.which(tool, path=_PATH) for tool in tools):
        return False
    command = [_tool("unshare"), "-n", _tool("ip"), "link", "add", "link0", "type", "veth"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def _network() -> Iterator[int]:
    """A process with a network of its own, that has loopback alone."""
    script = f"{_tool('ip')} link set lo up && echo made && exec cat"
    command = die_with_parent.wrap([_tool("unshare"), "-n", "sh", "-c", script])
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"made\n"
        try:
            yield holder.pid
        finally:
            holder.kill()


def _join(one: Machine, other: Machine) -> None:
    ends = [
        word
        for name, machine in (("", one), ("peer", other))
        for word in (*name.split(), "name", "link0", "netns", str(machine.holder))
    ]
    subprocess.run([_tool("ip"), "link", "add", *ends[:4], "type", "veth", *ends[4:]], check=True)
    for machine in (one, other):
        _ip(machine, "address", "add", f"{machine.address}/24", "dev", "link0")
        _ip(machine, "link", "set", "link0", "up")


def _ip(machine: Machine, *arguments: str) -> None:
    subprocess.run(machine.inside((_tool("ip"), *arguments)), check=True)


_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


def _tool(name: str) -> str:
    found = shutil.which(name, path=_PATH)
    assert found, name
    return found


def _address(coded: str) -> str:
    """``0100007F:1F90``, words in this machine's order, as ``127.0.0.1:8080``."""
    host, _, port = coded.partition(":")
    words = [bytes.fromhex(host[at : at + 8])[::-1] for at in range(0, len(host), 8)]
    address = ipaddress.ip_address(b"".join(words))
    mapped = getattr(address, "ipv4_mapped", None)
    return f"{mapped or address}:{int(port, 16)}"
