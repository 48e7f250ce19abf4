"""What `headrace usage` takes, and how it prints."""

from __future__ import annotations

import csv
import io

import pytest

from deploy import usage
from deploy.credits import Wrong
from schemas.tally import FOREVER, SUMMED, Question, Tally
from schemas.usage import Served

NOON = 1_795_348_800.0  # 2026-11-22


def tally(*by: str, model: str = "m", **more: float) -> Tally:
    found = Tally(Question(by))
    found.served(Served("2026-11-22", "acme", "k", model, "n", **more), NOON)  # type: ignore[arg-type]
    return found


def test_options_are_read() -> None:
    asked = usage.question("day, key", "2026-11-01", "2026-11", "acme", "k")
    assert (asked.by, asked.account, asked.key) == (("day", "key"), "acme", "k")
    assert asked.until - asked.since == 30 * 86_400
    assert usage.question("day", "7d", "", "", "").until == FOREVER


@pytest.mark.parametrize(
    ("by", "since", "until", "named"),
    [
        ("colour", "7d", "", "--by"),
        ("day", "x", "", "--since"),
        ("day", "7d", "x", "--until"),
        ("day", "1d", "40d", "--until: 40d is not after --since 1d"),
    ],
)
def test_a_wrong_option_is_named(by: str, since: str, until: str, named: str) -> None:
    with pytest.raises(Wrong, match=named):
        usage.question(by, since, until, "", "")


def test_the_table_has_totals_and_no_columns_of_zeros(capsys: pytest.CaptureFixture[str]) -> None:
    found = tally("day", "provider", requests=1_234_567, seconds=1.5)
    found.add({"day": "2026-11-23", "provider": "p", "requests": 1, "cost": 5, "uncharged": 3})
    usage._print_table(found, "EUR")
    head, _, first, second, total, *_ = [
        line.split() for line in capsys.readouterr().out.splitlines() if line.strip()
    ]
    assert " ".join(head) == (
        "day provider requests prompt completion slot seconds EUR not charged"
    )
    assert first == ["2026-11-22", "–", "1234567", "0", "0", "1.5", "0.00", "0.00"]
    assert second == ["2026-11-23", "p", "1", "0", "0", "0", "0.000005", "0.000003"]
    assert total == ["total", "1234568", "0", "0", "1.5", "0.000005", "0.000003"]


def test_names_of_clients_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    usage._print_table(tally("model", model="[red]m[/red]\x1b[2J"), "EUR")
    out = capsys.readouterr().out
    assert "[red]m[/red]" in out
    assert "\x1b" not in out


def test_csv_has_all_columns_and_no_formulas(capsys: pytest.CaptureFixture[str]) -> None:
    found = tally("model", "node", model='=HYPERLINK("x"),"', requests=2, prompt=3, seconds=0.25)
    usage._print_csv(found, "EUR")
    [row] = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert set(row) == {"model", "node", *SUMMED, "currency"}
    assert (row["model"], row["node"], row["requests"]) == ('\'=HYPERLINK("x"),"', "n", "2")
    assert (row["slot_seconds"], row["cost"], row["currency"]) == ("0.25", "0.00", "EUR")
