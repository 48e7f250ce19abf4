"""Providers of paid inference, simulated on the wire: OpenAI and those like it, Google,
Cloudflare Workers AI, Anthropic.

In the event loop of a test::

    async with OpenAI(key="sk-test-0123456789") as sim:      # key=None takes any
        sim.base_url                       # what a client's base URL is; sim.url without the path
        sim.pace.tokens, sim.pace.token_s = 40, 0.01         # also first_s, head_s, reasoning ...
        sim.faults.add(refuse(429, retry_after=1), cut(after=3))       # for the next two requests
        sim.faults.add(hang(), model="gpt-4o", times=-1)     # for that model, for ever
        await sim.seen(2); await sim.quiet()                 # events, no sleeps
        [gone] = await sim.ended("aborted")                  # or cut, finished, refused, broken
        assert sim.record.connections == 0 and sim.record.count("aborted") == 1
        [sent] = sim.record.with_text("#job7")               # sent exactly once
        sent.headers, sent.body, sent.model, sent.state, sent.ended - sent.at, sent.used.output
        sim.record.used(state="aborted"), sim.record.cost({"gpt-4o": Price(input=..., output=...)})
        await sim.down(); await sim.up()                     # refuses connections in between
        sim.limits.set(requests=3, window_s=1)               # real 429s from the fourth on

As a process: ``python -m tests.doubles.providers openai --port 0 --key sk-test`` prints
``{"url", "base_url", "pid"}``; its control is HTTP at ``/_sim`` (see `control`), not counted.

Answers (`words`): a word is a token. The text is the words of the last user message, from its first
``#marker`` on, and repeated up to `pace.tokens` (None: once); ``max_tokens`` cuts it. So
``"".join(words.answer(prompt, tokens))`` is what a test expects. A tool is called if the prompt
has its name as a word, or if `tool_choice` wants it; a JSON schema gets the least that fits it.
A prompt counts its words, and 85 for a picture. Embeddings are unit vectors of their text alone.

Faults (`faults`): `refuse`, `hang`, `cut`, `broken`, `unfinished`, `undone`, `unmetered`, `slow`. A
GET takes only faults that name its path. While `pace.may_answer` is clear no head is sent, while
`pace.may_generate` is no token is generated: `await sim.generated(3)` waits for three of them.

Beside that: `Google` has `blocked` and `unsafe` words and `strangers` (fields it refuses); its
native surface is at ``sim.url + "/v1beta"``. `Cloudflare` has `account` and `run_url`; a 429 of it
is 3040, with ``code="3036"`` the spent allowance. `Anthropic`'s own client takes ``sim.url``;
``refuse(529)`` is its overload, and `continuing` names the models that go on from an assistant
message; of `Continuing`, `way` is how it is told to. OpenAI's empty purse is
``refuse(429, code="insufficient_quota")``. Unknown models are a 404 (400 at Cloudflare and
OpenRouter): ``models=("any-name",)`` adds some.

What a request used (`Exchange.used`) is counted as it is generated: also for one that was aborted
or cut, up to that point; a refused one used nothing.
"""

from tests.doubles.providers.anthropic import Anthropic
from tests.doubles.providers.base import Provider
from tests.doubles.providers.catalog import SIMULATORS
from tests.doubles.providers.cloudflare import Cloudflare
from tests.doubles.providers.compatible import Compatible, Continuing, Groq, OpenRouter, Together
from tests.doubles.providers.faults import (
    broken,
    cut,
    hang,
    refuse,
    slow,
    undone,
    unfinished,
    unmetered,
)
from tests.doubles.providers.google import Google
from tests.doubles.providers.openai import OpenAI
from tests.doubles.providers.record import Exchange, Price, Used

__all__ = [
    "SIMULATORS",
    "Anthropic",
    "Cloudflare",
    "Compatible",
    "Continuing",
    "Exchange",
    "Google",
    "Groq",
    "OpenAI",
    "OpenRouter",
    "Price",
    "Provider",
    "Together",
    "Used",
    "broken",
    "cut",
    "hang",
    "refuse",
    "slow",
    "undone",
    "unfinished",
    "unmetered",
]
