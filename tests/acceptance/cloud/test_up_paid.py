"""``headrace up`` with a provider in its config, as an owner of one machine meets it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest

from tests.acceptance.headrace_up import PATIENCE, descendant, headrace, up

SECRET = "sk-provider-0123456789abcdef"
CONFIG = """
[[route]]
name = "cloud"
providers = ["sim/gpt-4o-mini"]

[[providers]]
name = "sim"
url = "{url}"
key_env = "SIM_KEY"

[[prices]]
provider = "sim"
model = "gpt-4o-mini"
input = 1
output = 2
"""


@contextmanager
def simulated_provider() -> Iterator[str]:
    """A simulated provider in a process of its own; its base URL."""
    command = [sys.executable, "-m", "tests.doubles.providers", "openai", "--port", "0"]
    with subprocess.Popen([*command, "--key", SECRET], stdout=subprocess.PIPE, text=True) as made:
        assert made.stdout is not None
        try:
            yield json.loads(made.stdout.readline())["base_url"]
        finally:
            made.terminate()


def variables(pid: int) -> str:
    return Path(f"/proc/{pid}/environ").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_credits_are_granted_spent_and_counted(tmp_path: Path) -> None:
    data, config = tmp_path / "data", tmp_path / "headrace.toml"
    with simulated_provider() as url:
        config.write_text(CONFIG.format(url=url))
        engine = ("--config", str(config), "--engine", "echo://?model=echo")
        with up(data, *engine, SIM_KEY=SECRET) as running:
            client = openai.OpenAI(
                base_url=running.url,
                api_key=(data / "key").read_text().strip(),
                max_retries=0,
                timeout=PATIENCE,
            )
            end = time.monotonic() + PATIENCE
            while "cloud" not in {model.id for model in client.models.list()}:
                assert time.monotonic() < end, running.text
                time.sleep(0.05)
            ask = {"model": "cloud", "messages": [{"role": "user", "content": "#a one two"}]}
            with pytest.raises(openai.APIStatusError) as poor:
                client.chat.completions.create(**ask, max_tokens=3)  # type: ignore[call-overload]
            assert (poor.value.status_code, poor.value.code) == (402, "insufficient_credits")

            granted = headrace("credits", "grant", "local", "5", "--data", data)
            assert (granted.returncode, granted.stdout) == (0, "local: 5.00 USD\n")
            fallback = descendant(running.pid, "-m deploy fallback")
            for part in ("ingress", "worker"):
                assert SECRET not in variables(descendant(running.pid, f"-m deploy {part}"))
            assert SECRET in variables(fallback)

            made = client.chat.completions.create(**ask, max_tokens=3)  # type: ignore[call-overload]
            assert made.choices[0].message.content == "#a one two"
            os.kill(fallback, signal.SIGKILL)
            running.says("the fallback runs again")
            again = client.with_options(timeout=PATIENCE, max_retries=5)
            made = again.chat.completions.create(**ask, max_tokens=3)  # type: ignore[call-overload]
            assert made.choices[0].message.content == "#a one two"

            shown = headrace("credits", "show", "--json", "--data", data)
            [account] = json.loads(shown.stdout)["data"]
            assert (account["available"], account["reserved"]) == (5_000_000 - 2 * 9, 0)
            used = headrace("usage", "--by", "key,model,provider", "--json", "--data", data)
            [row] = json.loads(used.stdout)["data"]
            assert (row["key"], row["model"], row["provider"]) == ("local", "cloud", "sim")
            assert (row["requests"], row["cost"]) == (2, 18)
            assert "sim" in headrace("status", "--data", data).stdout
            logs = "".join(path.read_text() for path in (data / "logs").iterdir())
            assert SECRET not in logs + running.text
