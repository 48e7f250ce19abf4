"""``python -m tests.real.compat``: makes docs/compat.md anew, below its first paragraphs.

It starts what the page names, all on this machine: ``headrace up`` with the model of the
quickstart, and a second worker for engines with the models of `tests.builders`.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.acceptance.conftest import running_llama
from tests.acceptance.headrace_up import HEADRACE, environment, up
from tests.acceptance.surface.servers import RANKING_MODEL, TOOLS_MODEL, embeddings, template
from tests.builders import mmproj
from tests.real.sd import running_sd
from tests.real.whisper import running_whisper

PAGE = Path(__file__).parents[2] / "docs" / "compat.md"
_BEGIN = "Seen by Headrace "
_LATE = "no answer within"
_QUICKSTART = "smollm2-135m-instruct"


def main() -> int:
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        home = Path(name)
        config = home / "worker.toml"
        tables = stack.enter_context(_engines(home))
        config.write_text("".join(tables.values()))
        made = stack.enter_context(up(home / "data", "--host", "0.0.0.0"))
        stack.enter_context(_running("worker", "--data", made.data, "--config", config))
        _wait(made.url.removesuffix("/v1"), {_QUICKSTART, *tables})
        asked = [*HEADRACE, "compat", "--data", str(made.data), "--markdown"]
        found = subprocess.run(
            asked, stdout=subprocess.PIPE, text=True, env=environment(), check=True
        )
    if _LATE in found.stdout:
        print("some answers did not come in time: the machine has too much else to do")
        return 1
    PAGE.write_text(PAGE.read_text().partition(_BEGIN)[0] + found.stdout)
    return 0


@contextmanager
def _engines(home: Path) -> Iterator[dict[str, str]]:
    """The tables of a worker's configuration, by model, while the engines run."""
    projector = mmproj.build(lambda line: print(line, file=sys.stderr))
    with ExitStack() as stack:
        llamas = {
            "all-minilm-l6-v2": embeddings(alias="all-minilm-l6-v2"),
            RANKING_MODEL: embeddings("--rerank", RANKING_MODEL),
            "smollm2-eyes": ["--mmproj", str(projector.file), "--alias", "smollm2-eyes"],
            TOOLS_MODEL: template("tools.jinja", TOOLS_MODEL),
        }
        found = {
            model: _table(model, "llamacpp", stack.enter_context(running_llama(*options)).url)
            for model, options in llamas.items()
        }
        (home / "sd").mkdir()
        for model, kind, server in (
            ("whisper-tiny.en", "whisper", stack.enter_context(running_whisper())),
            ("flux-random", "sdcpp", stack.enter_context(running_sd(home / "sd"))),
        ):
            found[model] = _table(model, kind, server.url)
        yield found


def _table(model: str, kind: str, url: str) -> str:
    named = f'[[engines]]\nname = "{model}"\nkind = "{kind}"\n'
    return f'{named}url = "{url}"\nmodels = ["{model}"]\n'


@contextmanager
def _running(*arguments: str | Path) -> Iterator[None]:
    with subprocess.Popen([*HEADRACE, *map(str, arguments)], env=environment()) as process:
        try:
            yield
        finally:
            process.terminate()


def _wait(url: str, models: set[str]) -> None:
    """Until the ingress lists these models."""
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/readyz") as answer:
            if set(json.load(answer)["models"]) == models:
                return
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
