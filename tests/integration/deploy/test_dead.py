"""`headrace dead`: what it shows, drops and sends again, of letters at a real broker."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from deploy import dead
from deploy.configure import Where
from deploy.dead import DeadFailed
from deploy.nats.broker import Broker
from schemas import subjects
from tests import forks
from tests.fabric import KEY, Fabric, ask
from tests.unit import fakes

SECRET = "a user's words"


def where(broker: Broker, home: Path) -> Where:
    user, password = broker.users["admin"]
    address = broker.url.replace("://", f"://{user}:{password}@")
    return Where(home, None, address)


def rows(shown: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = orjson.loads(shown.splitlines()[-1])["data"]
    return found


async def write(fabric: Fabric, *letters: bytes, model: str = "echo") -> None:
    bus = await fabric.admin()
    for letter in letters:
        headers = {"Headrace-Error": "it fell", "Headrace-Model": model}
        bus.post(subjects.dead(model), letter, headers=headers)
    await bus.flush()
    await bus.close()


async def test_letters_are_shown_sent_again_and_dropped(
    fabric: Fabric, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = where(fabric.broker, tmp_path)
    await dead.show_all(here, "", as_json=True)
    assert rows(capsys.readouterr().out) == [], "no stream, no letter"
    await fabric.ingress()
    await fabric.worker()
    await fabric.served("echo")
    body = orjson.dumps(ask(SECRET))
    good = fakes.job(endpoint="/v1/chat/completions", content_type="application/json", body=body)
    bad = fakes.job(body=orjson.dumps(ask(SECRET, echo={"fault": "500"})))
    large = fakes.job(body=b"", body_size=9_000_000)
    await write(fabric, good.pack(), bad.pack(), large.pack(), b"of another version")
    await write(fabric, good.pack(), model="other")

    await dead.show_all(here, "echo", as_json=True)
    found = rows(shown := capsys.readouterr().out)
    assert [row["place"] for row in found] == [1, 2, 3, 4]
    assert (found[0]["error"], found[0]["bytes"]) == ("it fell", len(body))
    await dead.show_all(here, "", as_json=False)
    shown += (table := capsys.readouterr().out)
    assert table.count("it fell") == 5
    await dead.show(here, 1, with_body=False)
    shown += capsys.readouterr().out
    assert SECRET not in shown
    await dead.show(here, 1, with_body=True)
    assert capsys.readouterr().out.endswith(body.decode() + "\n")

    with pytest.raises(DeadFailed, match="failed again, and kept: 2"):
        await dead.retry(here, [1, 2], fabric.url, KEY)
    told = capsys.readouterr().out
    assert "1: 200" in told
    assert f'"content":"{SECRET}"' in told
    assert "2: 502" in told
    with pytest.raises(DeadFailed, match="too large"):
        await dead.retry(here, [3], fabric.url, KEY)
    with pytest.raises(DeadFailed, match="another version"):
        await dead.show(here, 4, with_body=True)
    with pytest.raises(DeadFailed, match="no such letter"):
        await dead.show(here, 1, with_body=False)
    await dead.drop(here, [3])
    with pytest.raises(DeadFailed) as refused:
        await dead.drop(here, [3, 4, 99])
    none = "there is no such letter (any more); see 'headrace dead list'"
    assert str(refused.value) == f"3: {none}\n99: {none}"
    assert "4: dropped" in capsys.readouterr().out
    await dead.show_all(here, "echo", as_json=True)
    left = [str(row["error"]) for row in rows(capsys.readouterr().out)]
    assert (left[0], len(left)) == ("it fell", 2), "and the one that was sent again failed again"


async def test_a_letter_has_the_body_that_its_job_left_behind(
    fabric: Fabric, tmp_path: Path
) -> None:
    """A body by reference could be had from nobody later."""
    await fabric.ingress({"ingress.inline_body": 1024})
    await fabric.worker()
    await fabric.served("echo")
    long = "word " * 1000
    status, _, _ = await fabric.post(ask(long, echo={"fault": "500"}))
    assert status == 502
    here = where(fabric.broker, tmp_path)
    command = ("dead", "show", "1", "--body", f"--nats={here.nats}", f"--data={here.data}")
    assert long in (await forks.run(*command))[1]
