"""What clients see of five kinds of engines whose habits differ: one API. (`docs/engines.md`)

Real processes and the official SDK; the engines are simulated from their recordings.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import openai
import pytest
import pytest_asyncio

from deploy.nats import broker as brokers
from tests.doubles.llamacpp.server import LlamaCpp
from tests.doubles.ollama.native import Model
from tests.doubles.ollama.server import Ollama
from tests.doubles.sdserver.server import SdServer
from tests.doubles.vllm.server import Vllm
from tests.doubles.whisper.server import WhisperSim, whisper_sim
from tests.fabric import KEY, PATIENCE, Fabric, fabric
from tests.integration.histories import CASES, Case
from tests.integration.one_endpoint import post
from workers.engines.whisper.engine import tone

CHATS = {"gpt-llamacpp": "own", "gpt-ollama": "tiny:latest", "gpt-vllm": "tiny"}
"""By the names that clients use."""
CHAT = "/v1/chat/completions"
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
PICTURE = "data:image/png;base64,iVBORw0KGgo="

pytestmark = pytest.mark.asyncio(loop_scope="module")
each_chat = pytest.mark.parametrize("model", CHATS)


@dataclass(slots=True)
class EnginesSetup:
    fabric: Fabric
    client: openai.AsyncOpenAI
    llama: LlamaCpp
    ollama: Ollama
    vllm: Vllm
    whisper: WhisperSim
    sdserver: SdServer

    async def chat(self, model: str, text: Any = "a b c", **more: Any) -> Any:
        messages: Any = [{"role": "user", "content": text}]
        return await self.client.chat.completions.create(messages=messages, model=model, **more)

    async def refused(self, model: str, text: Any = "a b c", **more: Any) -> openai.APIStatusError:
        with pytest.raises(openai.APIStatusError) as fault:
            await self.chat(model, text, **more)
        return fault.value

    def asked(self, model: str, path: str = CHAT) -> list[Any]:
        """The bodies that the engine behind this name was sent."""
        return self.double(model).asked(path)

    def double(self, model: str) -> LlamaCpp | Ollama | Vllm:
        sims: dict[str, LlamaCpp | Ollama | Vllm] = {
            "gpt-llamacpp": self.llama,
            "gpt-ollama": self.ollama,
            "gpt-vllm": self.vllm,
        }
        return sims[model]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def setup(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EnginesSetup]:
    home = tmp_path_factory.mktemp("fabric")
    seeing = Model("tiny:latest", ("completion", "tools", "vision"), num_ctx=2048)
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(brokers.start(home / "broker", 0, 0))
        llama, ollama = LlamaCpp(), Ollama(seeing)
        vllm, sdserver = Vllm(senses=("vision", "audio")), SdServer(native=False)
        for sim in (llama, ollama, vllm, sdserver):
            await stack.enter_async_context(sim)
        whisper = await stack.enter_async_context(whisper_sim())
        made = await stack.enter_async_context(fabric(broker, home))
        await made.ingress(routes=CHATS)
        await made.worker(llama.url, kind="llamacpp")
        await made.worker(ollama.url, kind="ollama")
        await made.worker(vllm.url, kind="vllm")
        await made.worker(whisper.url, kind="whisper", models=["ears"])
        await made.worker(sdserver.url, kind="sdcpp", models=["hands"])
        await made.served("own", "tiny:latest", "tiny", "ears", "hands")
        client = openai.AsyncOpenAI(
            base_url=made.url + "/v1", api_key=KEY, max_retries=0, timeout=PATIENCE
        )
        async with client:
            yield EnginesSetup(made, client, llama, ollama, vllm, whisper, sdserver)


async def test_refusals_of_every_engine_have_openais_shape(setup: EnginesSetup) -> None:
    """The engines: a number for a code, text/plain, a mere string."""
    faults = [
        await setup.refused("gpt-vllm", max_tokens=100_000),
        await setup.refused("gpt-ollama", [{"type": "image_url", "image_url": {"url": PICTURE}}]),
    ]
    setup.whisper.status = 400
    picture = (await setup.client.images.generate(prompt="a", size="64x64", model="hands")).data
    assert picture
    with pytest.raises(openai.APIStatusError) as deaf:
        await setup.client.audio.transcriptions.create(file=("a.wav", tone()), model="ears")
    setup.whisper.status = 200
    png = base64.b64decode(picture[0].b64_json or "")
    with pytest.raises(openai.APIStatusError) as blind:
        await setup.client.images.edit(
            image=("a.png", png), prompt="a", model="hands", output_format="webp"
        )
    for fault in (*faults, deaf.value, blind.value):
        assert (fault.status_code, fault.type) == (400, "invalid_request_error")
        assert isinstance(fault.code, str)
        assert isinstance(fault.body, dict)
        assert {"message", "type", "param", "code"} <= fault.body.keys()
        assert len(fault.message) > 20


@each_chat
@pytest.mark.parametrize("stream", [False, True])
async def test_a_clients_hints_are_said_in_the_engines_words_or_named(
    setup: EnginesSetup, model: str, stream: bool
) -> None:
    """None of these models is known to reason but vLLM's, of which nothing is known."""
    hints: Any = {"reasoning_effort": "xhigh", "service_tier": "priority", "store": True}
    hints |= {"verbosity": "low", "user": "u", "extra_body": {"keep_alive": "5m"}}
    create = setup.client.chat.completions.with_raw_response.create
    messages: Any = [{"role": "user", "content": "a b c"}]
    raw: Any = await create(messages=messages, model=model, stream=stream, **hints)
    answer = raw.parse()
    assert [chunk async for chunk in answer] if stream else answer.choices
    told = raw.headers["x-headrace-warning"]
    named = {"service_tier", "store", "verbosity", "reasoning_effort", "keep_alive"}
    obeyed = {"gpt-vllm": {"reasoning_effort"}, "gpt-ollama": {"keep_alive"}}.get(model, set())
    assert {name for name in named if f"{name} has no effect" in told} == named - obeyed
    sent = setup.asked(model)[-1]
    arrived = {"gpt-vllm": "high", "gpt-ollama": None}.get(model, "xhigh")
    assert sent["reasoning_effort"] == arrived
    if model == "gpt-vllm":
        assert sent["chat_template_kwargs"] == {"enable_thinking": True}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("model", ["gpt-ollama", "gpt-vllm"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_history_arrives_as_the_engine_takes_it(
    setup: EnginesSetup, model: str, case: Case, stream: bool
) -> None:
    double, http = setup.double(model), setup.fabric.session
    straight = case.body(CHATS[model], stream=stream)
    async with http.post(double.url + case.path, json=straight) as refused:
        assert refused.status == 400, "the double takes what the engine refuses"

    answer = await post(setup.fabric, case.path, case.body(model, stream=stream))

    assert answer.status == 200, answer.body
    assert setup.asked(model, case.path)[-1][case.field] == case.arrives()


async def test_an_unknown_model_is_a_404_at_every_endpoint(setup: EnginesSetup) -> None:
    """llama-server, whisper-server and sd-server do not look at the name."""
    client = setup.client
    name: dict[str, Any] = {"model": "nobody"}
    asks = (
        lambda: setup.chat("nobody"),
        lambda: client.completions.create(prompt="a", **name),
        lambda: client.embeddings.create(input="a", **name),
        lambda: client.responses.create(input="a", **name),
        lambda: client.audio.transcriptions.create(file=("a.wav", tone()), **name),
        lambda: client.images.generate(prompt="a", **name),
    )
    for ask in asks:
        with pytest.raises(openai.NotFoundError) as fault:
            await ask()
        assert (fault.value.code, fault.value.param) == ("model_not_found", "model")


@each_chat
async def test_a_stream_begins_with_the_role_and_text(setup: EnginesSetup, model: str) -> None:
    """llama-server: null; vLLM: empty; Ollama: its first token."""
    chunks = [chunk async for chunk in await setup.chat(model, stream=True)]
    first = chunks[0].choices[0].delta
    assert first.role == "assistant"
    assert isinstance(first.content, str)
    assert chunks[-1].choices[0].finish_reason == "stop"


@each_chat
@pytest.mark.parametrize("stream", [False, True])
async def test_answers_have_the_asked_name_and_ids_of_their_own(
    setup: EnginesSetup, model: str, stream: bool
) -> None:
    """llama-server names a path or an alias. Ollama draws ids from 999 numbers."""
    ids = set()
    for _ in range(2):
        answer = await setup.chat(model, stream=stream)
        parts = [part async for part in answer] if stream else [answer]
        assert {part.model for part in parts} == {model}
        assert len({part.id for part in parts}) == 1
        ids.add(parts[0].id)
        assert not re.fullmatch(r"chatcmpl-\d{1,3}", parts[0].id)
    assert len(ids) == 2


async def test_several_choices_of_an_engine_that_gives_one(setup: EnginesSetup) -> None:
    answer = await setup.chat("gpt-ollama", n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert answer.usage.completion_tokens == 9
    assert answer.usage.prompt_tokens == (await setup.chat("gpt-ollama")).usage.prompt_tokens


async def test_a_limit_that_the_engine_does_not_know(setup: EnginesSetup) -> None:
    answer = await setup.chat("gpt-ollama", "a b c d", max_completion_tokens=2)
    assert answer.choices[0].message.content == "a b"
    assert answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("gpt-ollama", (502, "invalid_structured_output", "tool_choice")),
        ("gpt-vllm", (400, "unsupported_parameter", "tools")),
    ],
)
async def test_a_tool_choice_that_is_not_heeded_is_told(
    setup: EnginesSetup, model: str, told: tuple[int, str, str]
) -> None:
    """llama-server's is heeded: tests/unit/workers/engines/llamacpp/tools/test_chat.py."""
    before = len(setup.asked(model))
    fault = await setup.refused(model, tools=[TOOL], tool_choice="required")
    assert (fault.status_code, fault.code, fault.param) == told
    assert len(setup.asked(model)) <= before + (model != "gpt-llamacpp")


@pytest.mark.parametrize("model", ["gpt-ollama", "gpt-vllm"])
@pytest.mark.parametrize("stream", [False, True])
async def test_too_long_a_prompt_is_refused(setup: EnginesSetup, model: str, stream: bool) -> None:
    """Ollama itself cuts it without a word. llama-server: tests/acceptance/test_chat.py."""
    fault = await setup.refused(model, "word " * 9000, stream=stream)
    assert (fault.status_code, fault.code) == (400, "context_length_exceeded")
    assert fault.param == "messages"


async def test_nor_does_a_response_lose_its_beginning(setup: EnginesSetup) -> None:
    with pytest.raises(openai.BadRequestError) as fault:
        await setup.client.responses.create(model="gpt-ollama", input="word " * 9000)
    assert (fault.value.code, fault.value.param) == ("context_length_exceeded", "input")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_recording_in_a_chat_reaches_the_engine_that_hears(
    setup: EnginesSetup, stream: bool
) -> None:
    heard = {"data": base64.b64encode(tone()).decode(), "format": "wav"}
    said = [{"type": "text", "text": "a b c"}, {"type": "input_audio", "input_audio": heard}]
    answer = await setup.chat("gpt-vllm", said, stream=stream)
    if stream:
        answer = "".join([c.choices[0].delta.content or "" async for c in answer if c.choices])
    else:
        answer = answer.choices[0].message.content
    assert answer == "a b c"
    assert setup.asked("gpt-vllm")[-1]["messages"][0]["content"] == said


async def test_nor_one_that_cannot_hear(setup: EnginesSetup) -> None:
    heard = {"data": base64.b64encode(tone()).decode(), "format": "wav"}
    fault = await setup.refused("gpt-llamacpp", [{"type": "input_audio", "input_audio": heard}])
    assert (fault.status_code, fault.param) == (400, "messages[0].content[0].input_audio")
    assert "tiny" in str(fault)


@each_chat
async def test_no_engine_gets_an_address_to_fetch(setup: EnginesSetup, model: str) -> None:
    before = len(setup.asked(model))
    for url in ("http://127.0.0.1:1/a.png", "http://169.254.169.254/", "file:///etc/passwd"):
        part = {"type": "image_url", "image_url": {"url": url}}
        assert (await setup.refused(model, [part])).status_code == 400
    assert len(setup.asked(model)) == before


async def test_no_more_jobs_than_slots_reach_an_engine(setup: EnginesSetup) -> None:
    """Its own queue is silent and, but for Ollama's, has no bound."""
    before = len(setup.asked("gpt-ollama"))
    setup.ollama.may_generate.clear()
    chats = [asyncio.create_task(setup.chat("gpt-ollama")) for _ in range(3)]
    await setup.fabric.jobs(3)
    await setup.ollama.sent(CHAT, before + 1)
    assert len(setup.asked("gpt-ollama")) == before + 1
    setup.ollama.may_generate.set()
    await asyncio.gather(*chats)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["gpt-ollama", "gpt-vllm"])
async def test_who_leaves_frees_the_engine(setup: EnginesSetup, model: str, stream: bool) -> None:
    sim = setup.ollama if model == "gpt-ollama" else setup.vllm
    left, asked = len(await sim.seen("left", 0)), len(sim.asked(CHAT))
    sim.may_generate.clear()
    chat = asyncio.create_task(setup.chat(model, stream=stream))
    await sim.sent(CHAT, asked + 1)
    chat.cancel()
    await sim.seen("left", left + 1)
    sim.may_generate.set()
    assert (await setup.chat(model)).choices


async def test_nothing_of_the_engines_shows(setup: EnginesSetup) -> None:
    """Paths of models and LoRAs, pages that load or tell, headers that let any web page in."""
    http, headers = setup.fabric.session, {**setup.fabric.headers, "Origin": "http://evil.example"}
    pages = ("/load", "/sdcpp/v1/capabilities", "/sdapi/v1/loras", "/slots")
    for path in pages:
        for method in ("GET", "POST"):
            async with http.request(method, setup.fabric.url + path, headers=headers) as answer:
                assert answer.status == 404
    about = "/props?model=gpt-llamacpp"  # a POST changes what llama-server does for all
    before = len(setup.llama.asked("/props"))
    for method in ("POST", "PUT", "DELETE"):
        async with http.request(method, setup.fabric.url + about, headers=headers, json={}) as sent:
            assert sent.status in (404, 405)
    assert len(setup.llama.asked("/props")) == before
    bodies = {
        CHAT: {"model": "gpt-vllm", "messages": [{"role": "user", "content": "hi"}]},
        "/v1/images/generations": {"model": "hands", "prompt": "a", "size": "64x64"},
    }
    for path, body in bodies.items():
        async with http.post(setup.fabric.url + path, json=body, headers=headers) as answer:
            assert answer.status == 200
            assert not [name for name in answer.headers if name.lower().startswith("access-")]
            assert answer.headers.get("server") is None
    for path in ("/v1/models", "/api/tags", "/props?model=gpt-vllm"):
        async with http.get(setup.fabric.url + path, headers=headers) as answer:
            text = await answer.text()
        for leak in ('"root"', "safetensors", ".gguf", "/models/", "127.0.0.1"):
            assert leak not in text
