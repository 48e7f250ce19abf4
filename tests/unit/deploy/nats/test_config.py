"""The file that nats-server reads, and who may say what."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.nats.config import ANY_PORT, ServerConfig, render
from deploy.nats.rights import FALLBACK, INGRESS, KEYS, ROLES, WORKER
from schemas import subjects

USERS = {role: (role, f"secret-of-{role}") for role in ROLES}
CONFIG = ServerConfig(Path("/srv/headrace"), USERS)


def rendered(**fields: Any) -> Any:
    return json.loads(render(replace(CONFIG, **fields)))


def test_the_settings_that_the_protocol_counts_on() -> None:
    found = rendered()
    wanted = {
        "listen": "127.0.0.1:4222",
        "ports_file_dir": "/srv/headrace",
        "log_file": "/srv/headrace/nats-server.log",
        "max_payload": 2 * 2**20,
        "ping_interval": "2s",
        "ping_max": 2,
        "write_deadline": "5s",
        "jetstream": {"store_dir": "/srv/headrace", "sync_interval": "1s"},
        "system_account": "SYS",
    }
    assert {name: found[name] for name in wanted} == wanted
    assert "http" not in found, "the monitoring page asks for no login"
    assert rendered(http_port=8222)["http"] == "127.0.0.1:8222"


def test_any_port_and_sync_always() -> None:
    found = rendered(port=ANY_PORT, http_port=ANY_PORT, sync="always")
    assert found["listen"] == found["http"] == "127.0.0.1:-1"
    assert found["jetstream"] == {"store_dir": "/srv/headrace", "sync_interval": "always"}


def test_only_the_end_of_connections_of_members_leaves_the_system_account() -> None:
    accounts = rendered()["accounts"]
    ends = subjects.DISCONNECTS
    assert accounts["SYS"]["exports"] == [{"stream": ends, "accounts": ["EDGE", "HEADRACE"]}]
    hears = {name for name, each in accounts.items() if ends in json.dumps(each["imports"])}
    assert hears == {"EDGE", "HEADRACE"}


def test_the_credits_share_one_service_with_the_account_of_the_keys() -> None:
    ledger, keys = (rendered()["accounts"][name] for name in ("LEDGER", "KEYS"))
    grants = subjects.ASK_GRANT
    assert ledger["exports"] == [{"service": grants, "accounts": ["KEYS"]}]
    assert keys["imports"] == [{"service": {"account": "LEDGER", "subject": grants}}]
    assert ledger["imports"] == keys["exports"] == []
    for role in (INGRESS, FALLBACK, WORKER):
        assert grants not in (*role.publish, *role.subscribe)


def users() -> list[dict[str, Any]]:
    return [user for account in rendered()["accounts"].values() for user in account["users"]]


@pytest.mark.parametrize("role", ROLES)
def test_each_role_is_one_user(role: str) -> None:
    (found,) = (user for user in users() if user["user"] == role)
    assert found["password"] == f"secret-of-{role}"


def test_a_missing_role_is_an_error() -> None:
    with pytest.raises(KeyError, match="ingress"):
        rendered(users={k: v for k, v in USERS.items() if k != "ingress"})


def test_only_the_admins_are_without_limits() -> None:
    free = {user["user"] for user in users() if "permissions" not in user}
    assert free == {"admin", "ledger", "sys"}
    (worker,) = (user for user in users() if user["user"] == "worker")
    assert worker["permissions"] == {
        "publish": {"allow": list(WORKER.publish)},
        "subscribe": {"allow": list(WORKER.subscribe)},
        "allow_responses": True,
    }


def test_the_credits_are_in_an_account_of_their_own() -> None:
    account = rendered()["accounts"]["LEDGER"]
    assert [user["user"] for user in account["users"]] == ["ledger"]
    assert "credits" not in " ".join((*FALLBACK.publish, *INGRESS.publish, *WORKER.publish))


def test_the_keys_are_in_an_account_of_their_own() -> None:
    account = rendered()["accounts"]["KEYS"]
    assert [user["user"] for user in account["users"]] == ["keys"]
    others = " ".join((*FALLBACK.publish, *INGRESS.publish, *WORKER.publish))
    assert not [s for s in KEYS.publish if s in others]
    assert not [s for s in KEYS.publish if "DELETE" in s or "PURGE" in s or ">" in s[:-1]]


def test_only_a_fallback_hears_what_no_worker_takes() -> None:
    assert subjects.ALL_WANTS in FALLBACK.subscribe
    assert subjects.ALL_WANTS not in (*WORKER.subscribe, *WORKER.publish)
    assert subjects.ALL_FRAMES not in FALLBACK.subscribe


def test_a_worker_cannot_publish_jobs_or_read_frames() -> None:
    assert subjects.ALL_JOBS not in WORKER.publish
    assert subjects.ALL_FRAMES not in WORKER.subscribe
    assert subjects.DISCONNECTS not in WORKER.subscribe
    assert not [s for s in (*WORKER.publish, *WORKER.subscribe) if s in {">", "*", "$JS.API.>"}]


def test_an_ingress_cannot_publish_frames() -> None:
    assert subjects.ALL_FRAMES not in INGRESS.publish
    assert ">" not in (*INGRESS.publish, *INGRESS.subscribe)


def test_passwords_are_not_shown() -> None:
    assert "secret-of" not in repr(CONFIG)
