"""Logins and keys that become wrong while everything runs, and right again."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from deploy.nats.broker import CONFIG_NAME
from tests.fabric import Fabric, Process, ask, read_until

WORDS = " ".join(f"w{number}" for number in range(30))
WRONG = "another-password"


def change(fabric: Fabric, role: str, old: str, new: str) -> None:
    """Change the password of a role at the broker, which reads its configuration again."""
    file = fabric.broker.store / CONFIG_NAME
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    os.kill(fabric.broker.pid, signal.SIGHUP)


@pytest.mark.parametrize("role", ["worker", "ingress"])
async def test_a_password_that_is_changed_is_named_and_right_again_works(
    fabric: Fabric, role: str
) -> None:
    """A stream that runs goes on, and what is asked meanwhile waits."""
    ingress = await fabric.ingress()
    worker = await fabric.worker("echo://?model=echo&token_ms=50")
    await fabric.served("echo")
    begun = asyncio.Event()
    running = asyncio.create_task(fabric.stream(ask(WORDS), on_text=lambda _: begun.set()))
    await begun.wait()
    refused: Process = {"worker": worker, "ingress": ingress}[role]
    _, right = fabric.broker.users[role]
    change(fabric, role, right, WRONG)
    await read_until(lambda: refusals(refused), [refused])
    asked = asyncio.create_task(fabric.post(ask("meanwhile")))
    change(fabric, role, WRONG, right)
    await refused.logged("bus.reconnected")
    assert await running == (200, WORDS, True)
    assert (await asked)[0] == 200
    assert right not in str(refused.lines)
    assert refused.count("bus.error") < 10, "it is said once, not at each try"
    assert fabric.tracebacks() == []


def refusals(process: Process) -> list[str]:
    said = [str(line.get("error")) for line in process.lines if line["event"] == "bus.error"]
    return [text for text in said if "the broker refuses the login" in text]
