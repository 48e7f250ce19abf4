"""A text between two others, with a real llama.cpp whose model has tokens for that.

The small model was not trained with such tokens: others of its own stand for them. So no test says
what it writes, but it is asked as a model for code is.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from itertools import chain
from typing import Any

import orjson
import pytest
import pytest_asyncio

from deploy.nats import broker as brokers
from schemas.api import sse
from tests.acceptance.conftest import MODEL, RealLlama, running_llama
from tests.fabric import Fabric, fabric
from workers.engines.llamacpp.server import default_model

TOKENS = {"fim_pre": 3, "fim_suf": 4, "fim_mid": 5}
"""``<repo_name>``, ``<reponame>`` and ``<file_sep>`` of SmolLM2."""
BETWEEN: dict[str, Any] = {
    "input_prefix": "def add(a, b):\n",
    "input_suffix": "\nprint(add(1, 2))\n",
    "n_predict": 4,
    "temperature": 0,
    "ignore_eos": True,
}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def filling_llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealLlama]:
    model = tmp_path_factory.mktemp("model") / "fim.gguf"
    told = chain(*(("--special-token-by-id", name, str(at)) for name, at in TOKENS.items()))
    command = [sys.executable, "-m", "gguf.scripts.gguf_new_metadata", "--force", *told]
    subprocess.run([*command, str(default_model()), str(model)], check=True, capture_output=True)
    with running_llama("--model", str(model)) as server:
        model.unlink()  # it is open, and 90 MB
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(
    filling_llama: RealLlama, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Fabric]:
    """It is one of two models, and the only one that can do this."""
    home = tmp_path_factory.mktemp("fabric")
    with brokers.start(home / "broker", 0, 0) as broker:
        async with fabric(broker, home) as made:
            await made.ingress()
            await made.worker(filling_llama.url)
            await made.worker()
            await made.served("echo", MODEL)
            yield made


async def ask(served: Fabric, body: dict[str, Any], path: str = "/infill") -> tuple[int, bytes]:
    """(status, body); no model is named, as editors name none."""
    url, headers = served.url + path, served.headers
    async with served.session.post(url, json=body, headers=headers) as answer:
        return answer.status, await answer.read()


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"prompt": "    return"},
        {"input_extra": [{"filename": "a.py", "text": "x = 1\n"}, {"text": "y = 2\n"}]},
        {"samplers": ["top_k"], "cache_prompt": True, "t_max_prompt_ms": 900, "n_indent": 4},
        {"n": 2},
    ],
)
async def test_a_text_is_written_as_directly(
    served: Fabric, filling_llama: RealLlama, more: dict[str, Any]
) -> None:
    asked = {**BETWEEN, **more}
    status, direct = filling_llama.post("/infill", asked)
    assert status == 200, direct
    status, through = await ask(served, asked)
    assert status == 200, through
    expected, found = (
        each if isinstance(each, list) else [each] for each in map(orjson.loads, (direct, through))
    )
    for name in ("index", "content", "tokens_predicted", "stop", "stop_type", "model"):
        assert [each[name] for each in found] == [each[name] for each in expected]
    status, stream = await ask(served, {**asked, "stream": True})
    assert status == 200, stream
    events = list(sse.objects(stream))
    for each in expected:
        said = [event["content"] for event in events if event["index"] == each["index"]]
        assert "".join(said) == each["content"]


async def test_chosen_fields_are_chosen(served: Fabric) -> None:
    status, found = await ask(served, {**BETWEEN, "response_fields": ["content"]})
    assert (status, list(orjson.loads(found))) == (200, ["content"])


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input_prefix": None}, "input_prefix"),
        ({"input_suffix": 5}, "input_suffix"),
        ({"input_extra": [{}]}, "input_extra[0].text"),
        ({"input_extra": [{"filename": 123, "text": "a"}]}, "input_extra[0].filename"),
        ({"prompt": ["a"]}, "prompt"),
        ({"model": "echo"}, "model"),
    ],
)
async def test_what_cannot_be_is_refused(
    served: Fabric, change: dict[str, Any], param: str
) -> None:
    status, found = await ask(served, {**BETWEEN, **change})
    assert (status, orjson.loads(found)["error"]["param"]) == (400, param)


SUFFIXED: dict[str, Any] = {
    "model": MODEL,
    "prompt": BETWEEN["input_prefix"],
    "suffix": BETWEEN["input_suffix"],
    "max_tokens": 4,
    "temperature": 0,
    "ignore_eos": True,
}


async def test_a_suffix_of_a_text_completion_is_heeded(
    served: Fabric, filling_llama: RealLlama
) -> None:
    _, direct = filling_llama.post("/infill", BETWEEN)
    expected = orjson.loads(direct)
    status, found = await ask(served, {**SUFFIXED, "logprobs": 1}, "/v1/completions")
    assert status == 200, found
    document = orjson.loads(found)
    [choice] = document["choices"]
    assert (choice["text"], choice["finish_reason"]) == (expected["content"], "length")
    assert "".join(choice["logprobs"]["tokens"]) == choice["text"]
    assert document["usage"]["prompt_tokens"] == expected["tokens_evaluated"]
    assert document["usage"]["completion_tokens"] == 4
    asked = {**SUFFIXED, "stream": True, "stream_options": {"include_usage": True}}
    status, stream = await ask(served, asked, "/v1/completions")
    assert status == 200, stream
    assert stream.endswith(sse.DONE)
    *events, last = sse.objects(stream)
    assert "".join(each["choices"][0]["text"] for each in events) == expected["content"]
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 4)


async def test_so_is_one_of_ollamas_clients(served: Fabric) -> None:
    _, expected = await ask(served, {**BETWEEN, "ignore_eos": False})
    name = {"model": MODEL}
    options = {"num_predict": 4, "temperature": 0}
    asked = {**name, "prompt": SUFFIXED["prompt"], "suffix": SUFFIXED["suffix"], "stream": False}
    status, found = await ask(served, {**asked, "options": options}, "/api/generate")
    assert status == 200, found
    assert orjson.loads(found)["response"] == orjson.loads(expected)["content"]
    _, shown = await ask(served, name, "/api/show")
    assert "insert" in orjson.loads(shown)["capabilities"]


@pytest.mark.parametrize("prompt", [["a", "b"], [1, 2]])
async def test_a_suffix_is_for_one_text(served: Fabric, prompt: Any) -> None:
    status, found = await ask(served, {**SUFFIXED, "prompt": prompt}, "/v1/completions")
    assert (status, orjson.loads(found)["error"]["param"]) == (400, "prompt")
