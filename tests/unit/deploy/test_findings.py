"""What the doctor makes of what it sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy import doctor, findings
from deploy.findings import Finding
from schemas import topology
from schemas.frames import Role
from schemas.nodes import Card, EngineState
from schemas.settings import Engine, Jobs

STREAM = topology.streams(Jobs(), 1)[0]
CONSUMER = topology.consumer("m", "i", 3.0, 1)


@pytest.mark.parametrize(("size", "level"), [(2 * 2**20, "ok"), (2_000_000, "ok"), (2**20, "fail")])
def test_payload(size: int, level: str) -> None:
    assert findings.payload(size).level == level


@pytest.mark.parametrize(
    ("seconds", "most", "level"), [(2, 2, "ok"), (120, 2, "warn"), (2, 5, "warn")]
)
def test_pings(seconds: int, most: int, level: str) -> None:
    varz = {"ping_interval": seconds * topology.NS, "ping_max": most}
    assert findings.pings(varz).level == level
    assert findings.pings(None).level == "warn"


def test_data_that_cannot_be_looked_into_is_told_of(tmp_path: Path) -> None:
    (found,) = doctor.here(tmp_path / ("x" * 300))
    assert (found.level, "cannot be looked into: File name too long" in found.what) == (
        "fail",
        True,
    )


@pytest.mark.parametrize("wanted", [STREAM, CONSUMER])
def test_the_broker_may_know_more(wanted: dict[str, Any]) -> None:
    have = {**wanted, "more": 1, "metadata": {**wanted.get("metadata", {}), "_nats.ver": "2"}}
    assert findings.compare("it", wanted, have, "x") == Finding("ok", "it is as it should be")


def test_the_broker_leaves_out_what_is_off() -> None:
    assert findings.compare("it", {"a": False, "b": 0}, {}, "x").level == "ok"


@pytest.mark.parametrize("wanted", [STREAM, CONSUMER])
def test_every_difference_is_told(wanted: dict[str, Any]) -> None:
    for key, value in wanted.items():
        if value:
            found = findings.compare("it", wanted, {**wanted, key: None}, "an ingress")
            assert found.level == "fail"
            assert f"{key} None and not {value!r}" in found.what
            assert found.mend.startswith("restart an ingress")


def test_what_is_missing() -> None:
    assert findings.compare("it", STREAM, None, "an ingress").level == "fail"


def test_clocks() -> None:
    assert list(findings.clock(None)) == []
    for ahead, level in ((0.02, "ok"), (-0.02, "ok"), (1.5, "warn"), (-1.5, "warn")):
        (found,) = findings.clock(ahead)
        assert found.level == level


def test_engines() -> None:
    states = [
        EngineState("e", "llamacpp", "ready", 4, 0),
        EngineState("e", "llamacpp", "ready", 4, 0, "it is vLLM"),
        EngineState("e", "llamacpp", "failed", 4, 0, "why"),
    ]
    card = Card("h", "n", "s", 1, "1", engines=(*states, EngineState("e", "k", "starting", 0, 0)))
    assert [found.level for found in findings.engines((card,))] == ["ok", "warn", "fail", "warn"]
    assert [found.level for found in findings.engines(())] == ["warn"]


def test_who_speaks_another_version_gets_no_jobs() -> None:
    old = Card("h", "attic", "s", 1, "0.9", protocol=1)
    (found,) = findings.engines((old,))
    assert found.level == "warn"
    assert found.what == "the worker on attic speaks version 1 of the protocol: it gets no jobs"


def test_a_provider_runs_nowhere_that_one_could_look() -> None:
    state = EngineState("acme", "compatible", "failed", 4, 0, "acme answered 404")
    card = Card("h", "n", "s", 1, "1", role=Role.FALLBACK, engines=(state,))
    (found,) = findings.engines((card,))
    assert found.what == "provider acme on n failed: acme answered 404"
    assert "key" in found.mend


def test_places_that_are_open_to_others(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert [found.level for found in findings.places(data)] == ["ok"]
    (data / "broker").mkdir(mode=0o700, parents=True)
    key = data / "key"
    key.touch(mode=0o600)
    assert [found.level for found in findings.places(data)] == ["ok"]
    key.chmod(0o640)
    (found,) = findings.places(data)
    assert (found.level, found.what) == ("fail", f"others may use {key}")
    key.chmod(0o600)
    data.chmod(0o770)
    (found,) = findings.places(data)
    assert (found.level, found.what) == ("fail", f"others may use {data}")


def test_a_line_says_what_to_do() -> None:
    assert doctor.line(Finding("ok", "well")).plain == "ok    well"
    assert doctor.line(Finding("warn", "ill", "rest")).plain == "warn  ill\n      → rest"


def test_programs_of_engines() -> None:
    configured = [
        Engine(name="a", command=["sh", "{port}"]),
        Engine(name="b", command=["no-such-server", "{port}"]),
        Engine(name="c", url="http://127.0.0.1:1"),
    ]
    there, missing = findings.programs(configured)
    assert (there.level, there.what[-3:]) == ("ok", "/sh")
    assert missing.level == "fail"
    assert missing.what == "engine b: no-such-server cannot be started: it is not in PATH"
