"""The simulators of what was recorded answer as the recordings do."""

from __future__ import annotations

import base64
import json
from typing import Any

import aiohttp
import pytest

from schemas import pictures
from tests.doubles.base import Sim
from tests.doubles.likeness import agree
from tests.doubles.sdserver.pictures import png
from tests.doubles.sdserver.record import RECORDED as SD
from tests.doubles.sdserver.server import SdServer
from tests.doubles.vllm.server import Vllm
from tests.doubles.vllm.wire import RECORDED as VLLM


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
        server.may_generate.clear()
        _, _, text = await replay(server, SD["sdcpp_img_gen"])
        path = json.loads(text)["poll_url"]
        assert path == "/sdcpp/v1/jobs/job_6b033e95_00000000"
        await server.seen("started")
        agree(SD["sdcpp_job_early"], *await replay(server, SD["sdcpp_job_early"]))
        server.may_generate.set()
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


TYPE, NATIVE = "[json.exception.type_error.", "/sdcpp/v1/img_gen"
MEASURED: list[tuple[str, str, int, dict[str, str]]] = [
    ("", "[]", 500,
     {"error": "server_error", "message": TYPE + "306] cannot use value() with array"}),
    ("", '{"prompt":{}}', 500,
     {"error": "server_error", "message": TYPE + "302] type must be string, but is object"}),
    ("", '{"prompt":"a","output_compression":"x"}', 500,
     {"error": "server_error", "message": TYPE + "302] type must be number, but is string"}),
    ("", '{"prompt":"a<sd_cpp_extra_args>{\\"lora\\":5}</sd_cpp_extra_args>"}', 400,
     {"error": "invalid sd_cpp_extra_args"}),
    (NATIVE, "null", 500,
     {"error": "server_error", "message": TYPE + "306] cannot use value() with null"}),
    (NATIVE, '{"prompt":"a","output_format":"gif"}', 400,
     {"error": "invalid output_format, must be one of [png, jpeg, webp]"}),
    (NATIVE, '{"prompt":"a","init_image":"no base64"}', 400,
     {"error": "invalid generation parameters"}),
    (NATIVE, '{"prompt":"a","lora":[{"path":"x"}]}', 400,
     {"error": "invalid generation parameters"}),
    ("/sdcpp/v1/jobs/nope/cancel", "{}", 404, {"error": "job not found"}),
]  # fmt: skip
"""Of the real one, besides what is recorded (tests/acceptance/test_sd_fidelity.py)."""


@pytest.mark.parametrize(("path", "body", "status", "error"), MEASURED)
async def test_sdserver_faults(path: str, body: str, status: int, error: dict[str, str]) -> None:
    asked = {"method": "POST", "path": path or "/v1/images/generations", "body": body}
    async with SdServer() as server:
        found, _, text = await replay(server, {"request": asked})
    assert (found, json.loads(text)) == (status, error)


async def test_sdserver_cannot_stop_what_runs() -> None:
    async with SdServer() as server:
        server.may_generate.clear()
        pages = [json.loads((await replay(server, SD["sdcpp_img_gen"]))[2]) for _ in range(2)]
        await server.seen("started")
        cancels = [
            {"request": {"method": "POST", "path": page["poll_url"] + "/cancel", "body": ""}}
            for page in pages
        ]
        running, waiting = [await replay(server, case) for case in cancels]
    why = "job is currently generating and cannot be interrupted yet"
    assert (running[0], json.loads(running[2])) == (409, {"error": why})
    told = json.loads(waiting[2])
    assert (waiting[0], told["status"], told["started"]) == (200, "cancelled", None)


@pytest.mark.parametrize(("n", "drawn"), [(9, 8), (0, 1), (1.5, 1)])
async def test_sdserver_draws_eight_at_most(n: float, drawn: int) -> None:
    asked = {"prompt": "a", "size": "64x64", "n": n}
    case = {"request": {**SD["gen"]["request"], "body": json.dumps(asked)}}
    async with SdServer() as server:
        _, _, text = await replay(server, case)
    assert len(json.loads(text)["data"]) == drawn


async def test_sdserver_draws_the_same_with_the_same_seed() -> None:
    async with SdServer() as server:
        first, again = [await replay(server, SD["gen"]) for _ in range(2)]

    assert json.loads(first[2])["data"] == json.loads(again[2])["data"]


def _lower(answer: aiohttp.ClientResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers.items()}
