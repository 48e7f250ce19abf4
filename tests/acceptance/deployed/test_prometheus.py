"""The alerts, the dashboard and the pages of metrics, by Prometheus' own judgement."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from fallback.credits.entries import MICRO
from tests import forks
from tests.acceptance.cloud.cloud_setup import SECRET, CloudSetup, open_cloud
from tests.acceptance.deployed.conftest import ROOT, Tool
from tests.acceptance.deployed.scraped import FILES, RULES, Prometheus, Series, configured, running
from tests.doubles.providers import OpenAI
from tests.fabric import PATIENCE, Fabric, ask

CASES = Path(__file__).with_name("alerts_test.yaml")
NODE = "attic"
PAID = "paid"
BARE = {"Jobs offered to providers"}
"""Panels of what does not happen here: they have no numbers, and no faults."""


def test_the_rules_and_the_configuration_are_good(tool: Tool, tmp_path: Path) -> None:
    tool("promtool", "check", "rules", "--lint-fatal", FILES / RULES)
    tool("promtool", "check", "config", "--lint-fatal", configured(tmp_path, tmp_path / "sd.json"))
    tool("promtool", "check", "config", "--lint-fatal", FILES / "prometheus.yaml")


def test_each_alert_fires_when_it_should_and_only_then(tool: Tool, tmp_path: Path) -> None:
    shutil.copy(CASES, tmp_path)
    shutil.copy(FILES / RULES, tmp_path)
    tool("promtool", "test", "rules", tmp_path / CASES.name)


def test_each_alert_has_a_case_of_both_kinds() -> None:
    rules = yaml.safe_load((FILES / RULES).read_text())["groups"]
    names = {rule["alert"] for group in rules for rule in group["rules"]}
    cases = [
        case
        for each in yaml.safe_load(CASES.read_text())["tests"]
        for case in each["alert_rule_test"]
    ]
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == names
    well = yaml.safe_load(CASES.read_text())["tests"][0]["alert_rule_test"]
    assert {case["alertname"] for case in well if not case.get("exp_alerts")} == names


def test_a_case_that_is_wrong_would_be_seen(tool: Tool, tmp_path: Path) -> None:
    shutil.copy(FILES / RULES, tmp_path)
    wrong = CASES.read_text().replace("eval_time: 11m", "eval_time: 9m")
    (tmp_path / CASES.name).write_text(wrong)
    done = tool("promtool", "test", "rules", tmp_path / CASES.name, check=False)
    assert done.returncode == 1
    assert "alertname: HeadraceDown" in done.stderr


async def test_a_running_fabric_is_scraped(
    tool: Tool, tools: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    found = tools / "prometheus"
    program = found if found.exists() else Path(shutil.which("prometheus") or "")
    async with OpenAI(key=SECRET) as sim, open_cloud(tmp_path) as setup:
        await started(setup, sim)
        pages = await discovered(setup.fabric, tmp_path / "sd.json")
        assert sorted(each["labels"]["role"] for each in pages) == ["fallback", "ingress", "worker"]
        async with running(program, configured(tmp_path, tmp_path / "sd.json")) as prometheus:
            await prometheus.until('up{job="headrace"} == 1', lambda rows: len(rows) == len(pages))
            await served(prometheus, setup.fabric, subtests)
            await ruled(prometheus)
        for each in pages:
            with subtests.test(page=each["labels"]["role"]):
                await linted(tool, setup.fabric, each["targets"][0])


async def started(setup: CloudSetup, sim: OpenAI) -> None:
    """An ingress, a worker, and a fallback with credits."""
    setup.provider("sim", sim)
    setup.price("sim", "gpt-4o-mini")
    setup.route(PAID, ["sim/gpt-4o-mini"])
    await setup.ingress()
    await setup.fabric.worker(slots=1, config={"worker.node": NODE})
    await setup.grant(5 * MICRO)
    await setup.fallback()
    await setup.fabric.served("echo")
    await setup.provided(PAID)


async def discovered(fabric: Fabric, path: Path) -> list[Series]:
    """What `headrace status --prometheus-sd` prints, also in a file."""
    config = fabric.home / "status.toml"
    login = "".join(f'{k} = "{v}"\n' for k, v in fabric.login("monitor").items())
    config.write_text(f'[nats]\nurl = "{fabric.broker.url}"\n{login}')
    where = "--config", str(config), "--data", str(fabric.home / "data")
    code, out, err = await forks.run("status", "--prometheus-sd", *where)
    assert code == 0, err
    path.write_text(out)
    pages: list[Series] = json.loads(out)
    return pages


def panels() -> Iterator[tuple[str, str]]:
    """The titles and queries of the dashboard, with what Grafana puts into them."""
    board = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text())
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", "1m")


async def served(prometheus: Prometheus, fabric: Fabric, subtests: pytest.Subtests) -> None:
    """Each panel shows numbers while requests are served, fail, and are paid for."""
    using = asyncio.create_task(used(fabric))
    try:
        for title, query in panels():
            with subtests.test(panel=title):
                enough = anything if title in BARE else has_numbers
                rows = await prometheus.until(query, enough)
                assert not any(
                    label.startswith("exported_") for row in rows for label in row["metric"]
                )
        rows = await prometheus.query("headrace_node_requests_total")
        assert [(row["metric"]["node"], row["metric"]["role"]) for row in rows] == [
            (NODE, "ingress")
        ]
    finally:
        using.cancel()
        await asyncio.gather(using, return_exceptions=True)


async def used(fabric: Fabric) -> None:
    """Requests of each kind, again and again: a rate is of what changes."""
    while True:
        kept = {"x-headrace-cache": "on"}
        await fabric.stream(ask("one two three four"))
        await fabric.post(ask("again", temperature=0), **kept)
        await fabric.post({**ask("#a one", max_tokens=5), "model": PAID})
        await fabric.post({**ask("nobody"), "model": "absent"})
        await asyncio.sleep(0.05)


def anything(_: list[Series]) -> bool:
    return True


def has_numbers(rows: list[Series]) -> bool:
    return any(row["value"][1] != "NaN" for row in rows)


async def ruled(prometheus: Prometheus) -> None:
    """All alerts were looked at without a fault, and none fires."""
    async with asyncio.timeout(PATIENCE):
        while True:
            groups = (await prometheus.get("rules"))["groups"]
            rules = [rule for group in groups for rule in group["rules"]]
            assert rules
            if all(rule["health"] != "unknown" for rule in rules):
                break
            await asyncio.sleep(0.1)
    assert {rule["health"] for rule in rules} == {"ok"}, rules
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []


async def linted(tool: Tool, fabric: Fabric, address: str) -> None:
    """promtool finds nothing to say of a page."""
    async with fabric.session.get(f"http://{address}/metrics") as answer:
        page = await answer.text()
    assert "headrace_build_info" in page
    done = tool("promtool", "check", "metrics", fed=page)
    assert done.stdout + done.stderr == ""
