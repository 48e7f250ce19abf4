"""Where settings come from, which source wins, and what is said of a wrong one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from schemas.settings import Engine, Settings, SettingsError, load


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("HEADRACE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "headrace.toml"
    path.write_text("[ingress]\nport = 1111\nhost = 'file'\ndrain = 1\n[jobs]\nqueue_depth = 5\n")
    return path


def fault(text: str, tmp_path: Path) -> str:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(SettingsError) as found:
        load(path)
    return str(found.value)


def test_without_any_source_the_defaults() -> None:
    assert load().model_dump() == Settings().model_dump()


def test_flags_before_environment_before_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_INGRESS__PORT", "2222")
    monkeypatch.setenv("HEADRACE_INGRESS__HOST", "environment")
    found = load(file, {"ingress": {"port": 3333}}).ingress
    assert (found.port, found.host, found.drain) == (3333, "environment", 1.0)
    assert found.grace == 0.15


def test_flags_that_were_not_given_hide_nothing(file: Path) -> None:
    found = load(file, {"ingress": {"port": None}, "jobs": {"queue_depth": None}})
    assert (found.ingress.port, found.jobs.queue_depth) == (1111, 5)


def test_lists_in_the_environment_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_KEYS", '[{"name": "a", "secret": "0123456789abcdef"}]')
    (key,) = load().keys
    assert (key.name, key.secret.get_secret_value()) == ("a", "0123456789abcdef")


@pytest.mark.parametrize(
    ("text", "where", "near"),
    [
        ("[ingress]\nprot = 1\n", "ingress.prot", "port"),
        ("[ingres]\nport = 1\n", "ingres", "ingress"),
        ("[[engines]]\nname='a'\nurl='echo://'\nslot=1\n", "engines.0.slot", "slots"),
        ("[[route]]\nname='a'\nmodel='b'\nclaims=1\n", "route.0.claims", "claim"),
    ],
)
def test_an_unknown_setting_is_told_with_the_nearest_one(
    text: str, where: str, near: str, tmp_path: Path
) -> None:
    assert fault(text, tmp_path) == f"{where}: unknown setting; did you mean {near!r}?"


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("HEADRACE_INGRESS__PROT", "port"),
        ("HEADRACE_INGRES__PORT", "HEADRACE_INGRESS__PORT"),
        ("HEADRACE_INGRESS_PORT", "HEADRACE_INGRESS__PORT"),
        ("HEADRACE_NATS_URL", "HEADRACE_NATS__URL"),
        ("HEADRACE_INGRES", "HEADRACE_INGRESS"),
        ("HEADRACE_DATE", "HEADRACE_DATA"),
    ],
)
def test_so_is_one_of_the_environment(
    variable: str, near: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(SettingsError, match=f"did you mean '{near}'"):
        load()


def test_variables_of_the_command_line_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_DATA", "/somewhere")
    monkeypatch.setenv("HEADRACE_CONFIG", "/somewhere/else")
    assert load().model_dump() == Settings().model_dump()


def test_every_fault_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_SECTION__NAME", "1")
    monkeypatch.setenv("HEADRACE_OTHER", "1")
    said = fault("[ingress]\nport = 70000\nprot = 1\n[jobs]\nack_wait = 'x'\n", tmp_path)
    assert len(said.splitlines()) == 5
    assert "ingress.port: Input should be less than or equal to 65535" in said


def test_a_variable_that_is_no_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_KEYS", "[")
    with pytest.raises(SettingsError, match=r"environment: .*keys"):
        load()


def test_a_file_that_is_no_toml(tmp_path: Path) -> None:
    assert "wrong.toml: " in fault("[ingress\n", tmp_path)


def test_a_login_within_a_brokers_url_is_not_shown() -> None:
    nats = load(None, {"nats": {"url": "nats://a:b@h:1,nats://c@i:2,tls://j"}}).nats
    assert nats.shown == "nats://h:1,nats://i:2,tls://j"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no file$"):
        load(tmp_path)


def test_a_fault_is_told_without_the_words_of_the_library(tmp_path: Path) -> None:
    said = fault("[[route]]\nname = 'a'\nproviders = ['b/c']\n", tmp_path)
    assert said.startswith("the route 'a' names the provider 'b'")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such file"):
        load(tmp_path / "missing.toml")


def test_a_secret_is_in_no_message(tmp_path: Path) -> None:
    said = fault("[[keys]]\nname = 'a'\nsecret = 'hunter2'\n", tmp_path)
    assert "16 characters" in said
    assert "hunter2" not in said


WRONG_ENGINES: list[tuple[str, str]] = [
    ("kind = 'llamacpp'", "needs the url it answers at, or a command"),
    ("url = '127.0.0.1:8081'", "is none such as http://"),
    ("kind = 'vllm'\nurl = 'http://'", "is none such as http://"),
    ("kind = 'embedded'\nurl = 'http://127.0.0.1:1'", "has no url and no command"),
    ("kind = 'embedded'\ncommand = ['a']", "has no url and no command"),
    ("kind = 'echo'\ncommand = ['a']", "has no command"),
    ("url = 'http://127.0.0.1:1'\ncommand = ['a']", "either the url"),
    ("url = 'http://127.0.0.1:1'\nfile = 'm.gguf'", "file is only for an engine that"),
    ("url = 'http://127.0.0.1:1'\nport = 80", "port is only for an engine that"),
    ("url = 'http://127.0.0.1:1'\nenv = {A = 'b'}", "env is only for an engine that"),
    ("url = 'http://127.0.0.1:1'\nready_within = 9", "ready_within is only for an engine that"),
    ("command = [' ', '{port}']", "begins with the program, which is empty"),
    ("command = ['a', '{prot}']", "has {prot}, but only {file} and {port}"),
    ("command = ['a', '{port}']\nenv = {A = '{key}'}", "has {key}, but only"),
    ("command = ['a']", "needs {port} to be told its port"),
    ("command = ['a', '{port}', '{file}']", "no file is set"),
    ("command = ['a', '{port}']\nfile = 'm.gguf'", "the command has no {file}"),
    ('command = ["a\\u0000", "{port}"]', "a NUL character"),
    ("command = ['a', '{port}']\nport = 65536", "less than or equal to 65535"),
    ("command = ['a', '{port}']\nready_within = 0", "greater than 0"),
    ("command = ['a', '{port}']\nenv = {'A=B' = 'c'}", "match pattern"),
    ("command = 'llama-server --port {port}'", "valid list"),
]


def test_an_engine_runs_somewhere_or_is_started(subtests: pytest.Subtests, tmp_path: Path) -> None:
    for engine, why in WRONG_ENGINES:
        with subtests.test(f"{engine!r:.60} {why!r:.60}"):
            assert why in fault(f"[[engines]]\nname = 'a'\n{engine}\n", tmp_path)


def test_an_embedded_engine_needs_nothing() -> None:
    assert Engine(name="a", kind="embedded").context == 8192


def started(**fields: object) -> Engine:
    return Engine.model_validate({"name": "a", **fields})


def test_an_engine_that_is_started_is_told_its_port_or_has_one() -> None:
    assert started(command=["llama-server", "--port", "{port}"]).port == 0
    assert started(command=["ollama", "serve"], port=11434).port == 11434
    assert started(command=["ollama", "serve"], env={"OLLAMA_HOST": "127.0.0.1:{port}"}).env


def test_braces_that_are_no_placeholder_are_the_commands_own() -> None:
    argument = '{"enable_thinking": false, "n": {}}'
    assert started(command=["llama-server", argument], port=1).command[1] == argument


def test_the_environment_of_an_engine_is_secret() -> None:
    engine = started(command=["a", "{port}"], env={"HF_TOKEN": "hunter2hunter2"})
    assert "hunter2" not in repr(engine)


def test_two_engines_of_one_name_are_refused(tmp_path: Path) -> None:
    said = fault("[[engines]]\nname='a'\nurl='http://h:1'\n" * 2, tmp_path)
    assert said.startswith("engines: 2 engines have the name 'a': give each its own, as in ")


@pytest.mark.parametrize("name", ["ingress_url", "public_url"])
@pytest.mark.parametrize("url", ["http://[::1", "http://h:99999", "http://h:0"])
def test_an_address_of_the_console_that_nobody_can_ask(name: str, url: str, tmp_path: Path) -> None:
    said = fault(f"[console]\n{name} = '{url}'\n", tmp_path)
    assert said.startswith(f"console.{name}: this is no URL such as ")
