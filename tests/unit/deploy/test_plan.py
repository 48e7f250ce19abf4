"""What `headrace up` checks before it starts anything."""

from __future__ import annotations

import importlib.util
import shlex
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy import configure, home, plan
from deploy.nats import store
from deploy.plan import Plan
from schemas.settings import SettingsError, load
from workers.engines.llamacpp import server

ECHO = "echo://?slots=1"
PAID = """
[[route]]
name = "chat"
providers = ["acme/foo"]
[[providers]]
name = "acme"
url = "http://127.0.0.1:9/v1"
key_file = "nowhere"
"""
PRICE = """
[[prices]]
provider = "acme"
model = "foo"
input = 1
output = 2
"""


@pytest.fixture(autouse=True)
def _called_from_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As one who has `headrace` in PATH and nothing else of it in the environment."""
    program = tmp_path / "bin" / "headrace"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setattr(sys, "argv", [str(program), "up"])


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def make(tmp_path: Path, flags: dict[str, Any] | None = None, **options: Any) -> Plan:
    given: dict[str, Any] = {"engines": [ECHO], "node": None, "verbose": False, **options}
    place = {"config": None, "data": tmp_path / "data", **given}
    return plan.make(flags if flags is not None else {"ingress": {"port": 0}}, **place)


def config(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "headrace.toml"
    path.write_text(text)
    return path


def test_any_port_is_a_port(tmp_path: Path) -> None:
    made = make(tmp_path)
    assert made.port > 0
    assert made.moved_from == 0
    assert made.url == f"http://127.0.0.1:{made.port}"


def test_a_default_port_that_is_taken_is_told(
    tmp_path: Path, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load()
    moved = settings.ingress.model_copy(update={"port": taken})
    moved.model_fields_set.clear()  # as a default is
    monkeypatch.setattr(
        configure, "read", lambda *_: settings.model_copy(update={"ingress": moved})
    )
    made = make(tmp_path, {})
    assert made.moved_from == taken
    assert made.port not in (0, taken)


def test_a_port_that_was_asked_for_is_kept_or_refused(tmp_path: Path, taken: int) -> None:
    with pytest.raises(SettingsError, match=rf"127\.0\.0\.1:{taken}.*--port"):
        make(tmp_path, {"ingress": {"port": taken}})


def test_an_address_of_another_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot listen on 192\.0\.2\.1:"):
        make(tmp_path, {"ingress": {"host": "192.0.2.1", "port": 0}})


@pytest.mark.parametrize(
    ("host", "called"), [("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("::", "[::1]")]
)
def test_an_address_that_can_be_called(host: str, called: str, tmp_path: Path) -> None:
    try:
        made = make(tmp_path, {"ingress": {"host": host, "port": 0}})
    except SettingsError:
        pytest.skip(f"this machine has no {host}")
    assert made.url == f"http://{called}:{made.port}"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[nats]\nurl = 'nats://10.0.0.1'", "starts a broker of its own"),
        ("[nats]\nreplicas = 3", "nats.replicas must be 1"),
        ("[ingress]\nprot = 1", "did you mean 'port'"),
        (PAID, "no price is known for acme/foo"),
        (f"{PAID}{PRICE}", "acme has no key: the file nowhere"),
    ],
)
def test_settings_that_do_not_fit(text: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=why):
        make(tmp_path, config=config(tmp_path, text))
    assert not (tmp_path / "data").exists()


def test_what_no_fallback_needs_may_be_missing(tmp_path: Path) -> None:
    off = config(tmp_path, f"{PAID}[fallback]\nenabled = false\n")
    assert not make(tmp_path, config=off).has_fallback


def test_an_engine_that_is_no_url(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is not NAME=URL"):
        make(tmp_path, engines=["nonsense"])


@pytest.mark.parametrize("missing", ["xllamacpp", server.MODEL_PACKAGE])
def test_without_engine_and_model_it_says_what_to_do(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == missing else found(name)
    )
    with pytest.raises(SettingsError) as fault:
        make(tmp_path, engines=[])
    assert "--engine llamacpp=http://" in str(fault.value)
    assert server.INSTALL in str(fault.value)
    assert not (tmp_path / "data").exists()


def test_a_data_directory_that_is_in_use(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with (
        store.claimed(home.broker_store(data)),
        pytest.raises(SettingsError, match=f"headrace runs already on {data}"),
    ):
        make(tmp_path)


def test_the_data_directory_is_private(tmp_path: Path) -> None:
    made = make(tmp_path)
    assert made.data.stat().st_mode & 0o777 == 0o700
    assert made.key == home.own_key(made.data)


def test_keys_of_the_config_are_not_shown(tmp_path: Path) -> None:
    text = "[[keys]]\nname = 'a'\nsecret = 'hunter2hunter2hunter2'"
    made = make(tmp_path, config=config(tmp_path, text))
    assert made.key == home.own_key(made.data)


def test_what_the_processes_are_told(tmp_path: Path) -> None:
    path = config(tmp_path, "[log]\nlevel = 'info'\n")
    flags = {"ingress": {"port": 0}, "log": {"level": "debug"}}
    made = make(tmp_path, flags, config=path, engines=[ECHO, "a=http://h:1"], node="box")
    common = ["--data", str(made.data), "--config", str(path), "--log-level", "debug"]
    assert made.flags("ingress") == [*common, "--host", "127.0.0.1", "--port", str(made.port)]
    engines = ["--engine", ECHO, "--engine", "a=http://h:1"]
    assert made.flags("worker") == [*common, "--node", "box", *engines]
    assert made.flags("fallback") == [*common, "--node", "box"]


def test_commands_to_paste(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(tmp_path)
    place = ["--data", str(made.data)]
    assert shlex.split(made.command("status")) == ["headrace", "status", *place]
    assert shlex.split(made.command("worker")) == ["headrace", "worker", *place, "--engine", ECHO]
    invite = ["node", "invite", "NAME"]  # the group `node` itself knows no --data
    assert shlex.split(made.command(*invite)) == ["headrace", *invite, *place]
    monkeypatch.setenv("XDG_DATA_HOME", str(made.data.parent))
    assert not home.data_dir().exists()


def test_commands_are_short_where_they_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    made = make(tmp_path, data=home.data_dir(), engines=["llamacpp=http://127.0.0.1:1"])
    assert made.command("status") == "headrace status"
    assert made.command("worker") == "headrace worker --engine NAME=URL"


def test_the_command_is_named_as_it_was_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    assert plan.own_command() == ["bin/headrace"]
    monkeypatch.chdir("/")
    assert plan.own_command() == [str(tmp_path / "bin" / "headrace").removeprefix("/")]
    monkeypatch.setattr(sys, "argv", ["/somewhere/deploy/__main__.py"])
    assert plan.own_command() == [sys.executable, "-m", "deploy"]


def test_the_console_takes_a_port_near_its_own(tmp_path: Path) -> None:
    made = make(tmp_path)
    assert made.console_port not in (0, made.port)
    assert made.console_url == f"http://127.0.0.1:{made.console_port}"
    assert made.flags("console")[-2:] == ["--port", str(made.console_port)]
    assert home.found_console_key(made.data) is not None


def test_a_console_behind_a_proxy_is_called_by_its_name(tmp_path: Path) -> None:
    made = make(tmp_path, {"console": {"public_url": "https://Console.example/"}})
    assert made.console_url == "https://console.example"
    assert made.console_here == f"http://127.0.0.1:{made.console_port}"


@pytest.mark.parametrize("missing", [True, False])
def test_without_a_console_there_is_none_and_no_key_for_it(
    tmp_path: Path, missing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing:
        monkeypatch.setattr("deploy.console.library.is_installed", lambda: False)
    made = make(tmp_path, {"ingress": {"port": 0}, "console": {"enabled": missing}})
    assert (made.console_port, made.console_url) == (0, "")
    assert home.found_console_key(made.data) is None


def test_a_port_of_the_console_that_is_taken_is_told(tmp_path: Path, taken: int) -> None:
    with pytest.raises(SettingsError, match=r"the console cannot listen .* in \[console\]"):
        make(tmp_path, {"ingress": {"port": 0}, "console": {"port": taken}})


def test_a_port_of_the_console_that_the_ingress_will_have_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_bound", lambda _, port: port)
    with pytest.raises(SettingsError, match=r"the ingress is to have it.* in \[console\]"):
        make(tmp_path, {"ingress": {"port": 8123}, "console": {"port": 8123}})
