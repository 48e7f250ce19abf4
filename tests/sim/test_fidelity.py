"""The simulators of what was recorded answer as the recordings do: status, headers, shape, and the
very words of errors. Texts, ids, times and counts are a simulator's own."""

from __future__ import annotations

import base64
import json
from typing import Any

import aiohttp
import pytest

from tests.sim.base import Sim
from tests.sim.sdserver import SdServer
from tests.sim.sdserver_pictures import png
from tests.sim.sdserver_record import RECORDED as SD
from tests.sim.vllm import Vllm
from tests.sim.vllm_wire import RECORDED as VLLM
from workers.engines import pictures

SAME = ("content-type", "server", "vary", "access-control-allow-origin")


def shape(value: Any) -> Any:
    """Keys in their order and the kinds of values; of a list the kinds that are in it."""
    if isinstance(value, dict):
        return [(key, shape(inner)) for key, inner in value.items() if key != "bytes"]
    if isinstance(value, list):
        kinds = [shape(inner) for inner in value]
        return [kind for index, kind in enumerate(kinds) if kind not in kinds[:index]]
    return type(value).__name__


def events(text: str) -> list[Any]:
    """The shapes of an event stream; those of the same shape in a row are one."""
    found: list[Any] = []
    for block in text.strip().split("\n\n"):
        *name, data = block.split("\n")
        value = data.removeprefix("data: ")
        told = [name, value if value == "[DONE]" else shape(json.loads(value))]
        if not found or found[-1] != told:
            found.append(told)
    return found


async def replay(server: Sim, case: dict[str, Any]) -> tuple[int, dict[str, str], str]:
    asked = case["request"]
    body = asked["body"].replace("@long", "word " * 9000)
    headers = {"Content-Type": "application/json"} if body else {}
    async with (
        aiohttp.ClientSession() as session,
        session.request(
            asked["method"], server.url + asked["path"], data=body.encode(), headers=headers
        ) as answer,
    ):
        told = {name.lower(): value for name, value in answer.headers.items()}
        return answer.status, told, await answer.text()


def agree(case: dict[str, Any], status: int, headers: dict[str, str], text: str) -> None:
    assert status == case["status"]
    assert {n: headers.get(n) for n in SAME} == {n: case["headers"].get(n) for n in SAME}
    recorded = case["body"]
    if headers.get("content-type", "").startswith("text/event-stream"):
        assert events(text) == events(recorded)
    elif recorded.startswith("{") and status < 400:
        assert shape(json.loads(text)) == shape(json.loads(recorded))
    elif recorded.startswith("{"):
        assert json.loads(text) == json.loads(recorded)
    else:
        assert text == recorded


@pytest.mark.parametrize("case", sorted(set(VLLM) - {"err_content_type"}))
async def test_vllm(case: str) -> None:
    async with Vllm() as server:
        agree(VLLM[case], *await replay(server, VLLM[case]))


async def test_vllm_complains_of_every_member_of_a_union() -> None:
    case = VLLM["err_content_type"]
    async with Vllm() as server:
        status, _, text = await replay(server, case)

    told, recorded = json.loads(text)["error"], json.loads(case["body"])["error"]
    assert status == case["status"]
    assert told["message"].splitlines()[1] == recorded["message"].splitlines()[1]
    assert {**told, "message": ""} == {**recorded, "message": ""}


FORMS = ("edit_webp", "err_edit_no_image", "err_edit_no_prompt")
JOBS = tuple(case for case in SD if case.startswith("sdcpp_job_"))


@pytest.mark.parametrize("case", sorted(set(SD) - {*FORMS, *JOBS, "sdcpp_img_gen_long"}))
async def test_sdserver(case: str) -> None:
    async with SdServer() as server:
        agree(SD[case], *await replay(server, SD[case]))


@pytest.mark.parametrize(
    ("case", "fields"),
    [
        ("edit_webp", {"prompt": "x", "output_format": "webp", "image": True}),
        ("err_edit_no_image", {"prompt": "x"}),
        ("err_edit_no_prompt", {"image": True}),
    ],
)
async def test_sdserver_edits(case: str, fields: dict[str, Any]) -> None:
    form = aiohttp.FormData(default_to_multipart=True)
    for name, value in fields.items():
        if value is True:
            form.add_field(name, png(64, 64, b"\1\2\3" * 64), filename="a.png")
        else:
            form.add_field(name, value)
    async with (
        SdServer() as server,
        aiohttp.ClientSession() as session,
        session.post(server.url + "/v1/images/edits", data=form) as answer,
    ):
        agree(SD[case], answer.status, {**_lower(answer)}, await answer.text())


async def test_sdserver_jobs() -> None:
    async with SdServer() as server:
        server.gate.clear()
        _, _, text = await replay(server, SD["sdcpp_img_gen"])
        path = json.loads(text)["poll_url"]
        assert path == "/sdcpp/v1/jobs/job_6b033e95_00000000"
        await server.seen("started")
        agree(SD["sdcpp_job_early"], *await replay(server, SD["sdcpp_job_early"]))
        server.gate.set()
        await server.seen("finished")
        agree(SD["sdcpp_job_done"], *await replay(server, SD["sdcpp_job_done"]))
        agree(SD["sdcpp_job_404"], *await replay(server, SD["sdcpp_job_404"]))


@pytest.mark.parametrize(
    ("size", "drawn"),
    [("64x64", (64, 64)), ("65x70", (72, 72)), ("0x0", (512, 512)), ("auto", (128, 128))],
)
async def test_sdserver_sizes(size: str, drawn: tuple[int, int]) -> None:
    case = {"request": {**SD["gen"]["request"], "body": json.dumps({"prompt": "a", "size": size})}}
    async with SdServer() as server:
        _, _, text = await replay(server, case)

    picture = base64.b64decode(json.loads(text)["data"][0]["b64_json"])
    found = pictures.inspect(picture)
    assert (found.width, found.height) == drawn
    assert b"parameters\0a\nSteps: 2" in picture


async def test_sdserver_draws_the_same_with_the_same_seed() -> None:
    async with SdServer() as server:
        first, again = [await replay(server, SD["gen"]) for _ in range(2)]

    assert json.loads(first[2])["data"] == json.loads(again[2])["data"]


def _lower(answer: aiohttp.ClientResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers.items()}
