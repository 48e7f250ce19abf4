"""Credits that run out, told to a webhook by real processes."""

from __future__ import annotations

from typing import Any

import openai

from tests.acceptance.cloud.cloud_setup import ACCOUNT, CloudSetup
from tests.doubles.providers import OpenAI
from tests.doubles.receiver import receiver
from tests.fabric import ask

SECRET = "a secret that only two know"
COST = 5_000  # of one answer below, in micro-units


async def test_credits_that_run_out_are_told_twice(setup: CloudSetup, sim: OpenAI) -> None:
    """Two fallbacks and two ingresses; the second threshold is told once a request is refused."""
    async with receiver() as hook:
        setup.provider("sim", sim)
        setup.price("sim", "gpt-4o-mini", input=0, output=1000)
        setup.route("echo", ["sim/gpt-4o-mini"], model="echo")
        secret = setup.fabric.home / "hook.secret"
        secret.write_text(SECRET)
        alerts: Any = {"alerts.url": hook.url, "alerts.secret_file": str(secret)}
        ingresses = [await setup.ingress(alerts) for _ in range(2)]
        fallbacks = [await setup.fallback() for _ in range(2)]
        await setup.provided("echo")
        await setup.grant(COST * 6 - 1)

        async def spend() -> int:
            answer = await setup.fabric.post(ask("one two three four five", max_tokens=5))
            return answer[0]

        assert [await spend() for _ in range(5)] == [200] * 5
        [first] = await hook.got(1)
        assert await spend() == 402
        await hook.got(2)
        await setup.grant(COST * 4)
        assert await spend() == 200
    charged = [entry.usage.cost for entry in await setup.charges() if entry.usage]
    assert charged == [COST] * 6
    assert [call.data["threshold"] for call in hook.calls] == [80, 100]
    assert (first.data["account"], first.data["budget"]) == (ACCOUNT, "credits")
    assert (first.data["used"], first.data["of"]) == (COST * 5, COST * 6 - 1)
    with openai.OpenAI(api_key="x") as client:
        client.webhooks.verify_signature(first.body, first.headers, secret=SECRET)
    assert sum(process.count("alerts.reached") for process in fallbacks) == 2
    for process in (*ingresses, *fallbacks):
        text = str(process.lines) + str(process.noise)
        assert SECRET not in text
        assert "T0PSECRET" not in text
