"""The text that nats-server reads, and who may say what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.nats.config import (
    ANY_PORT,
    FALLBACK,
    GRANTS,
    INGRESS,
    ROLES,
    WORKER,
    ServerConfig,
    render,
)
from schemas import subjects

USERS = {role: (role, f"secret-of-{role}") for role in ROLES}
CONFIG = ServerConfig(Path("/srv/headrace"), USERS)


def test_the_settings_that_the_protocol_counts_on() -> None:
    lines = render(CONFIG).splitlines()
    assert {
        'listen: "127.0.0.1:4222"',
        'http: "127.0.0.1:8222"',
        'ports_file_dir: "/srv/headrace"',
        'log_file: "/srv/headrace/nats-server.log"',
        "max_payload: 2MB",
        'ping_interval: "2s"',
        "ping_max: 2",
        'write_deadline: "5s"',
        'jetstream { store_dir: "/srv/headrace" }',
        "system_account: SYS",
    } <= set(lines)


def test_any_port_and_sync_always() -> None:
    text = render(replace(CONFIG, port=ANY_PORT, http_port=ANY_PORT, sync_always=True))
    assert 'listen: "127.0.0.1:-1"' in text
    assert 'http: "127.0.0.1:-1"' in text
    assert 'jetstream { store_dir: "/srv/headrace", sync_interval: always }' in text


def test_monitoring_stays_on_loopback() -> None:
    text = render(replace(CONFIG, host="10.0.0.7"))
    assert 'listen: "10.0.0.7:4222"' in text
    assert 'http: "127.0.0.1:8222"' in text


def test_only_the_end_of_connections_leaves_the_system_account() -> None:
    text = render(CONFIG)
    event = f'"{subjects.DISCONNECTS}"'
    assert f"exports: [ {{ stream: {event}, accounts: [HEADRACE] }} ]" in text
    assert f"imports: [ {{ stream: {{ account: SYS, subject: {event} }} }} ]" in text
    assert (text.count("exports"), text.count("imports")) == (1, 1)


@pytest.mark.parametrize("role", ROLES)
def test_each_role_is_one_user(role: str) -> None:
    assert render(CONFIG).count(f'user: "{role}", password: "secret-of-{role}"') == 1


def test_a_missing_role_is_an_error() -> None:
    with pytest.raises(KeyError, match="ingress"):
        render(replace(CONFIG, users={k: v for k, v in USERS.items() if k != "ingress"}))


def test_only_the_admin_is_without_limits() -> None:
    assert [role for role, grant in GRANTS.items() if grant is None] == ["admin"]
    assert render(CONFIG).count("permissions:") == 3


def test_the_credits_are_in_an_account_that_shares_nothing() -> None:
    account = render(CONFIG).partition("  LEDGER {")[2]
    assert 'user: "ledger"' in account
    assert "imports" not in account
    assert "credits" not in " ".join((*FALLBACK.publish, *INGRESS.publish, *WORKER.publish))


def test_only_a_fallback_hears_what_no_worker_takes() -> None:
    assert subjects.ALL_WANTS in FALLBACK.subscribe
    assert subjects.ALL_WANTS not in (*WORKER.subscribe, *WORKER.publish)
    assert "r.*.*" not in FALLBACK.subscribe


def test_a_worker_cannot_publish_jobs_or_read_frames() -> None:
    assert subjects.ALL_JOBS not in WORKER.publish
    assert "r.*.*" not in WORKER.subscribe
    assert subjects.DISCONNECTS not in WORKER.subscribe
    assert not [s for s in (*WORKER.publish, *WORKER.subscribe) if s in {">", "*", "$JS.API.>"}]


def test_an_ingress_cannot_publish_frames() -> None:
    assert "r.*.*" not in INGRESS.publish
    assert ">" not in (*INGRESS.publish, *INGRESS.subscribe)


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ('/srv/a"b', r'"/srv/a\"b"'),
        (r"/srv/a\b", r'"/srv/a\\b"'),
        ("/srv/$HOME #x é", '"/srv/$HOME #x é"'),
    ],
)
def test_paths_are_quoted(path: str, written: str) -> None:
    text = render(replace(CONFIG, store=Path(path)))
    assert f"store_dir: {written}" in text


@pytest.mark.parametrize("path", ["/srv/a\nport: 1", "/srv/\x00", "/srv/\udcff"])
def test_text_that_cannot_be_written_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        render(replace(CONFIG, store=Path(path)))


def test_passwords_are_not_shown() -> None:
    assert "secret-of" not in repr(CONFIG)
