"""A month's limit that runs out, told to a webhook by real ingresses."""

from __future__ import annotations

from typing import Any

import openai

from tests.doubles.receiver import receiver
from tests.fabric import KEY, PATIENCE, Fabric, ask

ADMIN = "sk-admin-0123456789abcdef"
ROOT = f'[[keys]]\nname = "root"\nsecret = "{ADMIN}"\nadmin = true\n'


async def test_a_month_that_runs_out_is_told_once(fabric: Fabric) -> None:
    """Ten tokens of a hundred at a time, by three ingresses in turn."""
    async with receiver() as hook:
        config: dict[str, Any] = {"alerts.url": hook.url, "alerts.thresholds": [50, 100]}
        ingresses = [await fabric.ingress(config, tables=ROOT) for _ in range(3)]
        await fabric.worker()
        said = {"name": "k", "account": "acme", "limits": {"monthly_tokens": 100}}
        async with fabric.session.post(
            f"{fabric.url}/admin/keys", json=said, headers={"Authorization": f"Bearer {ADMIN}"}
        ) as answer:
            secret = (await answer.json())["secret"]
        for ingress in ingresses:
            await ingress.logged("keys.changed")
            await fabric.served("echo", url=ingress.url)
        refused: set[str | None] = set()
        for turn in range(30):
            url = f"{ingresses[turn % 3].url}/v1"
            async with openai.AsyncOpenAI(
                api_key=secret, base_url=url, max_retries=0, timeout=PATIENCE
            ) as client:
                try:
                    await client.chat.completions.create(**ask("one two three four five"))
                except openai.RateLimitError as fault:
                    refused.add(fault.code)
        first, second = await hook.got(2)
        await fabric.post(ask("another key's"))
    assert refused == {"insufficient_quota"}
    assert [call.data["threshold"] for call in (first, second)] == [50, 100]
    assert {(c.data["budget"], c.data["account"], c.data["key"]) for c in hook.calls} == {
        ("monthly_tokens", "acme", "k")
    }
    assert len(hook.calls) == 2
    assert sum(process.count("alerts.reached") for process in ingresses) == 2
    assert "webhook-signature" not in first.headers, "there is no secret"
    assert KEY not in str(first)
