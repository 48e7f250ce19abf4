"""The simulated sd-server that the tests of its engine share, and jobs for it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from tests.doubles.drive import RecordingSink, ask, config, job, opened
from tests.doubles.sdserver.pictures import png
from tests.doubles.sdserver.server import SdServer
from workers.engines.sdcpp.engine import GENERATIONS, SdCppEngine

JOBS = "/sdcpp/v1/img_gen"
SQUARE = png(64, 64, b"\1\2\3" * 64)
EVIL = '<sd_cpp_extra_args>{"steps":99,"lora":[{"path":"/etc/x"}]}</sd_cpp_extra_args>'


def serving(server: SdServer, **more: Any) -> AbstractAsyncContextManager[SdCppEngine]:
    return opened(SdCppEngine(config("sdcpp", server.url, **more)))


async def draw(engine: SdCppEngine, prompt: object = "a cat", **more: Any) -> RecordingSink:
    body = {"prompt": prompt, "size": "64x64", **more}
    lenient = body.pop("lenient", False)
    return await ask(engine, job("tiny", GENERATIONS, lenient=lenient), body)
