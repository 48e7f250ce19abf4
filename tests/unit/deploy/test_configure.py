"""From flags to the settings of a process, and back to a page that can be shown."""

from __future__ import annotations

import tomllib
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from deploy import configure, home
from deploy.configure import Where
from deploy.nats import credentials, store
from deploy.nats.rights import ROLES
from deploy.nodes import kept
from schemas.keys import SCOPES
from schemas.settings import Nats, Settings, SettingsError, load
from workers.engines.llamacpp import server

ECHO = {"name": "a", "kind": "echo", "url": "echo://"}


def test_a_worker_without_engines_gets_the_built_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is installed, whatever is being installed on this machine meanwhile."""
    (tmp_path / "small.gguf").touch()
    installed = ModuleSpec("installed", None, is_package=True)
    installed.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr("importlib.util.find_spec", lambda _: installed)
    (engine,) = configure.resolve("worker", Where(tmp_path), {}).engines
    assert (engine.kind, engine.file, engine.url) == ("embedded", "", "")


@pytest.mark.parametrize("source", ["flag", "file"])
def test_a_worker_with_engines_gets_those(source: str, tmp_path: Path) -> None:
    path = tmp_path / "headrace.toml"
    path.write_text("[[engines]]\nname = 'a'\nkind = 'echo'\nurl = 'echo://'\n")
    flags = {"engines": [configure.parse_engine("echo://")]}
    config, given = (None, flags) if source == "flag" else (path, {})
    (engine,) = configure.resolve("worker", Where(tmp_path, config), given).engines
    assert engine.kind == "echo"


def test_an_ingress_starts_no_engine(tmp_path: Path) -> None:
    assert configure.resolve("ingress", Where(tmp_path), {}).engines == []


def test_a_worker_that_cannot_start_one_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SettingsError, match="no engine is named") as fault:
        configure.resolve("worker", Where(tmp_path), {})
    assert server.INSTALL in str(fault.value)


def test_an_ingress_without_keys_has_the_users_own(tmp_path: Path) -> None:
    (key,) = configure.resolve("ingress", Where(tmp_path), {}).keys
    assert key.secret.get_secret_value() == home.own_key(tmp_path)


def test_an_ingress_takes_the_consoles_key_where_there_is_one(tmp_path: Path) -> None:
    secret = home.console_key(tmp_path)
    own, key = configure.resolve("ingress", Where(tmp_path), {}).keys
    assert (own.name, key.name) == ("local", "console")
    assert key.secret.get_secret_value() == secret
    assert set(key.policy().scopes) == set(SCOPES)
    without = configure.resolve("ingress", Where(tmp_path), {"console": {"enabled": False}})
    assert [each.name for each in without.keys] == ["local"]


OWN = "[[keys]]\nname = '{}'\nsecret = 'sk-one-0123456789abcdef'\n"


@pytest.mark.parametrize(("name", "own"), [("alice", "local"), ("local", "headrace-up")])
def test_the_key_of_up_stays_good_beside_those_of_the_config(
    tmp_path: Path, name: str, own: str
) -> None:
    secret, path = home.own_key(tmp_path), tmp_path / "headrace.toml"
    path.write_text(OWN.format(name))
    keys = configure.resolve("ingress", Where(tmp_path, path), {}).keys
    assert [key.name for key in keys] == [name, own]
    assert keys[1].secret.get_secret_value() == secret


def test_no_key_is_made_beside_those_of_the_config_nor_where_others_can_reach(
    tmp_path: Path,
) -> None:
    path = tmp_path / "headrace.toml"
    path.write_text(OWN.format("alice"))
    (key,) = configure.resolve("ingress", Where(tmp_path, path), {}).keys
    assert key.name == "alice"
    anywhere = {"ingress": {"host": "0.0.0.0"}}
    assert configure.resolve("ingress", Where(tmp_path), anywhere).keys == []
    assert not (tmp_path / home.KEY_FILE).exists()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("llamacpp=http://h:1", ("llamacpp", "llamacpp", "http://h:1")),
        ("whisper:ears=http://h:1", ("ears", "whisper", "http://h:1")),
        ("box=http://h:1", ("box", "llamacpp", "http://h:1")),
        ("http://h:1", ("h:1", "llamacpp", "http://h:1")),
        ("http://h:1/?a=b", ("h:1", "llamacpp", "http://h:1/?a=b")),
        ("echo://?slots=1", ("echo", "echo", "echo://?slots=1")),
        ("a=echo://?slots=1", ("a", "echo", "echo://?slots=1")),
    ],
)
def test_engines_of_the_command_line(text: str, found: tuple[str, str, str]) -> None:
    engine = configure.parse_engine(text)
    assert (engine["name"], engine["kind"], engine["url"]) == found


@pytest.mark.parametrize("text", ["", "llamacpp", "llamacpp=", "h:1"])
def test_what_is_no_engine(text: str) -> None:
    with pytest.raises(SettingsError, match="is not NAME=URL"):
        configure.parse_engine(text)


def test_a_login_leaves_the_url() -> None:
    found = configure.split_login("nats://us%40er:p%2Fw@host:4222")
    assert found == {"url": "nats://host:4222", "user": "us@er", "password": "p/w"}
    assert configure.split_login("nats://host:4222") == {"url": "nats://host:4222"}
    assert configure.split_login("nats://u@host:4222") == {"url": "nats://host:4222", "user": "u"}
    with pytest.raises(SettingsError, match="is no URL"):
        configure.split_login("host")


def test_shown_settings_can_be_read_again(tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {
            "engines": [
                {"name": 'a "b" é', "kind": "echo", "url": "echo://", "models": ["x", "y"]}
            ],
            "route": [{"name": "r", "model": "m", "total": 5}],
        }
    )
    path = tmp_path / "shown.toml"
    path.write_text(configure.render(settings))
    assert load(path).model_dump() == settings.model_dump()


def test_no_secret_is_shown() -> None:
    secret = "hunter2hunter2hunter2"
    settings = Settings.model_validate(
        {
            "nats": {"url": f"nats://u:{secret}@a:1,nats://u:{secret}@b:1", "password": secret},
            "keys": [{"name": "k", "secret": secret}],
            "engines": [{"name": "e", "url": f"http://u:{secret}@h:1", "api_key": secret}],
        }
    )
    page = configure.render(settings)
    assert secret not in page
    shown = tomllib.loads(page)
    assert shown["nats"]["url"] == "nats://********@a:1,nats://********@b:1"
    assert shown["nats"]["password"] == shown["keys"][0]["secret"] == configure.MASK
    assert tomllib.loads(configure.render(Settings()))["nats"]["password"] == ""


def test_the_environment_of_an_engine_is_shown_without_its_values(tmp_path: Path) -> None:
    command = ["llama-server", "--port", "{port}", '{"a": 1}']
    engine = {"name": "e", "command": command, "env": {"HF_TOKEN": "hunter2", "EMPTY": ""}}
    path = tmp_path / "shown.toml"
    path.write_text(configure.render(Settings.model_validate({"engines": [engine]})))
    (shown,) = load(path).engines
    assert shown.command == command
    assert {name: value.get_secret_value() for name, value in shown.env.items()} == {
        "HF_TOKEN": configure.MASK,
        "EMPTY": "",
    }


def test_a_kind_of_engine_that_there_is_not(tmp_path: Path) -> None:
    path = tmp_path / "headrace.toml"
    path.write_text("[[engines]]\nname = 'a'\nkind = 'wisper'\nurl = 'http://127.0.0.1:1'\n")
    with pytest.raises(SettingsError, match=r"engines\.0\.kind: .*did you mean 'whisper'"):
        configure.resolve("worker", Where(tmp_path, path), {})


def test_a_process_beside_up_follows_its_broker(tmp_path: Path) -> None:
    """Its port and its login may be others after each start; the ledger has a login of its own."""
    place = home.broker_store(tmp_path)
    engine = {"engines": [{"name": "e", "kind": "echo", "url": "echo://"}]}
    found = configure.resolve("worker", Where(tmp_path), engine).nats
    assert found.now().url == Nats().url
    place.mkdir()
    credentials.obtain(place, ROLES)
    for port in (5001, 5002):
        store.note(place, store.Address(f"nats://127.0.0.1:{port}", "", 1))
        now = found.now()
        assert (now.url, now.user) == (f"nats://127.0.0.1:{port}", "worker")
        assert now.password.get_secret_value()
    assert found.model_copy(update={"user": "ledger"}).now().user == "ledger"
    (place / store.ADDRESS).write_text("{")
    assert found.now().url == Nats().url


@pytest.mark.parametrize(
    ("role", "section", "user"), [("ingress", "vault", "keys"), ("fallback", "ledger", "ledger")]
)
def test_a_second_login_is_found_beside_up_and_follows_its_broker(
    tmp_path: Path, role: str, section: str, user: str
) -> None:
    place = home.broker_store(tmp_path)
    place.mkdir()
    users = credentials.obtain(place, ROLES)
    store.note(place, store.Address("nats://127.0.0.1:5001", "", 1))
    route = {"route": [{"name": "r", "model": "m", "providers": ["p/m"]}]}
    flags = {**route, "providers": [{"name": "p", "kind": "openai"}]}
    found = configure.resolve(role, Where(tmp_path), flags)
    login = getattr(found, section).beside(found.nats)
    assert (login.user, login.password.get_secret_value()) == users[user]
    store.note(place, store.Address("nats://127.0.0.1:5002", "", 1))
    assert (login.now().url, login.now().user) == ("nats://127.0.0.1:5002", user)


def test_beside_a_broker_of_an_earlier_release_there_is_no_vault(tmp_path: Path) -> None:
    place = home.broker_store(tmp_path)
    place.mkdir()
    credentials.obtain(place, [role for role in ROLES if role != "keys"])
    store.note(place, store.Address("nats://127.0.0.1:5001", "", 1))
    assert not configure.resolve("ingress", Where(tmp_path), {}).vault.given


def test_a_process_with_a_broker_in_its_settings_stays_there(tmp_path: Path) -> None:
    engine = {"engines": [{"name": "e", "kind": "echo", "url": "echo://"}]}
    found = configure.resolve("worker", Where(tmp_path, nats="nats://far:4222"), engine).nats
    assert found.now() is found


def test_two_engines_of_one_name_are_refused_as_flags_too() -> None:
    with pytest.raises(SettingsError, match=r"--engine: 2 engines have the name 'llamacpp': give"):
        configure.parse_engines(["llamacpp=http://h:1", "llamacpp=http://h:2"])
    found = configure.parse_engines(["llamacpp=http://h:1", "llamacpp:two=http://h:2"])
    assert [each["name"] for each in found] == ["llamacpp", "two"]


def joined(data: Path, role: str) -> None:
    """Keep what `--join` keeps."""
    kept.keys(data, role)
    kept.keep_ca(data, role, "")
    kept.keep(data, kept.Node("box", role, "tls://10.0.0.5:4222", "i1", private=True))


def test_a_machine_that_joined_needs_no_more_than_its_data(tmp_path: Path) -> None:
    joined(tmp_path, "worker")
    found = configure.resolve("worker", Where(tmp_path), {"engines": [ECHO]})
    assert found.worker.node == "box"
    assert (found.nats.url, found.nats.user) == ("tls://10.0.0.5:4222", "")
    place = tmp_path / "joined" / "worker"
    assert (found.nats.seed, found.nats.ca) == (str(place / "seed"), str(place / "ca.pem"))
    key = found.nats.key()
    assert key is not None
    assert key.public.startswith("U")
    for name in ("seed", "node.json", "ca.pem"):
        assert (place / name).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("role", "section"), [("ingress", "vault"), ("fallback", "ledger")])
def test_its_second_login_is_a_key_of_its_own(role: str, section: str, tmp_path: Path) -> None:
    joined(tmp_path, role)
    routes = {"route": [{"name": "a", "model": "b", "providers": ["c/d"]}]}
    clouds = {**routes, "providers": [{"name": "c", "kind": "openai", "key_env": "C"}]}
    found = configure.resolve(role, Where(tmp_path), clouds)
    second = getattr(found, section)
    assert second.given
    login = second.beside(found.nats)
    assert (login.url, login.ca) == (found.nats.url, found.nats.ca)
    assert login.key().public != (found.nats.key() or login.key()).public


def test_who_names_a_broker_means_that_one_also_where_it_joined(tmp_path: Path) -> None:
    joined(tmp_path, "worker")
    found = configure.resolve("worker", Where(tmp_path, nats="nats://h:1"), {"engines": [ECHO]})
    assert (found.nats.url, found.nats.seed) == ("nats://h:1", "")


def test_a_node_that_joined_has_no_other_name(tmp_path: Path) -> None:
    joined(tmp_path, "worker")
    flags = {"engines": [ECHO], "worker": {"node": "other"}}
    with pytest.raises(SettingsError, match="node rename box other"):
        configure.resolve("worker", Where(tmp_path), flags)
    kept.renaming(tmp_path, "worker")("other")
    assert configure.resolve("worker", Where(tmp_path), flags).worker.node == "other"


def test_a_damaged_record_of_joining_is_told(tmp_path: Path) -> None:
    joined(tmp_path, "worker")
    (tmp_path / "joined" / "worker" / "node.json").write_text("{")
    with pytest.raises(SettingsError, match=r"node\.json is damaged"):
        configure.resolve("worker", Where(tmp_path), {"engines": [ECHO]})
