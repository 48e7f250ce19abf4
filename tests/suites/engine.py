"""llama-server as foreign tests start it: with its own flags, alone or with Headrace before it.

    python -m tests.suites.engine [--through] --port 8080 [llama-server's flags]

It is the engine of the quickstart, `xllamacpp`. Models that the flags name by repository are ones
that can be had here. With `--through` Headrace listens on the port, and `--api-key` is its key.
It ends with SIGTERM; flags that it does not know end it with 2.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import signal
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import xllamacpp

from deploy.nats import broker as brokers
from tests.builders import minilm, mmproj
from tests.fabric import fabric
from workers.engines.llamacpp.server import default_model, default_threads

_POOLING = xllamacpp.llama_pooling_type
_FLASH = xllamacpp.llama_flash_attn_type
_SWITCHES = {
    "--cont-batching": ("cont_batching", True),
    "--embedding": ("embedding", True),
    "--metrics": ("endpoint_metrics", True),
    "--kv-unified": ("kv_unified", True),
    "--swa-full": ("swa_full", True),
    "--slots": ("endpoint_slots", True),
    "--no-slots": ("endpoint_slots", False),
    "--context-shift": ("ctx_shift", True),
    "--jinja": ("use_jinja", True),
    "--no-jinja": ("use_jinja", False),
    "--no-ui": ("ui", False),
    "--no-cache-idle-slots": ("cache_idle_slots", False),
}
_NUMBERS = {
    "--batch-size": "n_batch",
    "--ubatch-size": "n_ubatch",
    "--ctx-size": "n_ctx",
    "--parallel": "n_parallel",
    "--n-predict": "n_predict",
    "--cache-ram": "cache_ram_mib",
    "--sleep-idle-seconds": "sleep_idle_seconds",
}
_TEXTS = {
    "--chat-template": "chat_template",
    "--slot-save-path": "slot_save_path",
    "--media-path": "media_path",
    "--cors-origins": "cors_origins",
}


def main() -> None:
    options = _options()
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if options.through:
        asyncio.run(_through(options))
    server = _serve(options, options.port, [options.api_key] if options.api_key else [])
    print(f"listening on {server.listening_address}", flush=True)
    while True:
        signal.pause()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--through", action="store_true")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--temp", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=42)
    for flag in ("--host", "--hf-repo", "--hf-file", "--alias", "--tags", "--api-key", "--pooling"):
        parser.add_argument(flag, default="")
    for flag in ("--chat-template-file", "--reasoning", "--reasoning-format", "-fa"):
        parser.add_argument(flag, default="")
    for flag in ("--offline", "--reranking", "--no-mmproj", "--verbose"):
        parser.add_argument(flag, action="store_true")
    for flag, (name, value) in _SWITCHES.items():
        parser.add_argument(flag, dest=name, action="store_const", const=value)
    for flag, name in _NUMBERS.items():
        parser.add_argument(flag, dest=name, type=int)
    for flag, name in _TEXTS.items():
        parser.add_argument(flag, dest=name)
    return parser.parse_args()


def _serve(options: argparse.Namespace, port: int, keys: list[str]) -> Any:
    """An `xllamacpp.Server`; it runs as long as the object lives."""
    params = xllamacpp.CommonParams()
    params.hostnames, params.port, params.api_keys = ["127.0.0.1"], port, keys
    params.endpoint_slots = params.endpoint_props = True
    params.offline, params.cpuparams.n_threads = True, default_threads()
    params.cpuparams.poll, params.verbosity = 0, 9 if options.verbose else 1
    params.sampling.temp, params.sampling.seed = options.temp, options.seed
    for name in (*(name for name, _ in _SWITCHES.values()), *_NUMBERS.values(), *_TEXTS.values()):
        if getattr(options, name) is not None:
            setattr(params, name, getattr(options, name))
    if options.alias:
        params.model_alias = {options.alias}
    if options.tags:
        params.model_tags = set(options.tags.split(","))
    if options.chat_template_file:
        params.chat_template = Path(options.chat_template_file).read_text()
    _choose_model(params, options)
    return xllamacpp.Server(params)


_FORMATS = xllamacpp.common_reasoning_format
_REASONING = {"on": 1, "off": 0}


def _choose_model(params: Any, options: argparse.Namespace) -> None:
    params.model.path = str(default_model())
    if options.pooling:
        params.pooling_type = _POOLING[f"LLAMA_POOLING_TYPE_{options.pooling.upper()}"]
    if options.reasoning_format:
        name = f"COMMON_REASONING_FORMAT_{options.reasoning_format.upper()}"
        params.reasoning_format = _FORMATS[name]
    params.enable_reasoning = _REASONING.get(options.reasoning, params.enable_reasoning)
    if options.fa:
        params.flash_attn_type = _FLASH["LLAMA_FLASH_ATTN_TYPE_ENABLED"]
    if options.reranking:
        params.embedding, params.pooling_type = True, _POOLING.LLAMA_POOLING_TYPE_RANK
    if params.embedding:
        params.model.path = str(minilm.build(_say).file)
    if "gemma3" in options.hf_repo and not options.no_mmproj:
        params.mmproj.path = str(mmproj.build(_say).file)


def _say(line: str) -> None:
    print(line, file=sys.stderr)


async def _through(options: argparse.Namespace) -> None:
    """Until SIGTERM; the engine lives in this process and ends with it."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    server = _serve(options, 0, [])
    name = options.alias or "default"
    key = {"name": "tests", "account": "tests", "secret": options.api_key}
    table = "".join(f"{name} = {json.dumps(value)}\n" for name, value in key.items())
    async with AsyncExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(brokers.start(home / "broker", 0, 0))
        made = await stack.enter_async_context(fabric(broker, home))
        await made.ingress(
            {"ingress.port": options.port},
            routes={"*": name},
            tables=f"[[keys]]\n{table}" if options.api_key else "",
        )
        await made.worker(server.listening_address)
        await ended.wait()
    sys.exit(0)


if __name__ == "__main__":
    main()
