from __future__ import annotations

import io
from pathlib import Path

import orjson
import pytest
from rich.console import Console

from schemas import settings
from tests.bench import report, system
from tests.bench.report import Row
from tests.bench.stats import percentile


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(value) for value in range(400, 0, -1)]
    assert [percentile(values, share) for share in (0.5, 0.99, 1.0)] == [200, 396, 400]
    assert percentile([7.0], 0.5) == 7.0
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


@pytest.mark.parametrize(
    ("row", "met"),
    [
        (Row("a", "x", "ms", 1.5, target=1.5), True),
        (Row("a", "x", "ms", 1.6, target=1.5), False),
        (Row("a", "x", "ms", 1.0, target=1.5, failures=1), False),
        (Row("d", "x", "1/s", 1300, target=1200, at_least=True), True),
        (Row("d", "x", "1/s", 1100, target=1200, at_least=True), False),
        (Row("d", "x", "1/s", float("inf"), target=1200), False),
        (Row("d", "x", "1/s", 1100), None),
    ],
)
def test_a_target_is_met_or_not(row: Row, met: bool | None) -> None:
    assert row.met is met


def test_the_table_and_the_file_tell_the_same(tmp_path: Path) -> None:
    rows = [Row("a", "added", "ms", 1.25, target=1.5, reference=0.5, ratio=2.5, raw={"n": [1.0]})]
    about = report.about(["scripts/bench", "--quick"])
    shown = io.StringIO()
    report.show(rows, about, Console(file=shown, width=160))
    report.save(rows, about, tmp_path / "out.json")
    told = orjson.loads((tmp_path / "out.json").read_bytes())
    for word in ("scripts/bench --quick", "nats-server", "added (ms)", "1.25", "≤ 1.5", "pass"):
        assert word in shown.getvalue()
    assert told["about"]["cores"] == about["cores"]
    assert told["rows"][0]["met"] is True
    assert told["rows"][0]["raw"] == {"n": [1.0]}


def test_headrace_understands_the_configuration(tmp_path: Path) -> None:
    nats = {"nats": {"url": "nats://127.0.0.1:1", "user": "worker", "password": 'a"b\\c'}}
    engine = system.Engine("slow", "http://127.0.0.1:2", priority=1)
    for name, more in (("edge", system.edge(8080, "s" * 32)), ("pull", system.pull(engine))):
        (tmp_path / name).write_text(system.toml({**nats, **more}))
    edge, pull = settings.load(tmp_path / "edge"), settings.load(tmp_path / "pull")
    assert edge.nats.password.get_secret_value() == 'a"b\\c'
    assert (edge.ingress.port, edge.keys[0].secret.get_secret_value()) == (8080, "s" * 32)
    assert (pull.engines[0].url, pull.engines[0].priority) == ("http://127.0.0.1:2", 1)
    assert (pull.worker.node, pull.engines[0].kind) == ("slow", "llamacpp")
