"""Translates fields that clients know to sd-server's own API.

Names and bounds: sd-server's examples/server/api.md, and the WebUI's API, which it also speaks.
LoRAs and other files are left out, because they are paths on the engine's machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from workers.engines.openai.refusal import Refusal

Reading = Callable[[str, Any], Any]
"""Turns a field's name and value into sd-server's value. Raises Refusal."""
MAX_STEPS = 100
"""A bound of the worker: sd-server accepts more."""
_WORD = re.compile(r"[A-Za-z0-9_+. -]{1,40}")


def number(least: float, most: float, whole: bool = False) -> Reading:
    def read(name: str, value: Any) -> Any:
        found = _parsed(value, whole)
        if found is None or not least <= found <= most:
            bounds = f"{least:,} to {most:,}" if whole else f"{least:g} to {most:g}"
            wrong(name, f"a{' whole' * whole} number from {bounds} is needed")
        return found

    return read


def _parsed(value: Any, whole: bool) -> float | None:
    """The number, also from text, as a form has only text; None if there is none."""
    if isinstance(value, str):
        try:
            return int(value) if whole else float(value)
        except ValueError:
            return None
    fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    return value if fits else None


def _word(name: str, value: Any) -> str:
    if not isinstance(value, str) or _WORD.fullmatch(value) is None:
        wrong(name, "a name is needed, like 'euler_a'")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        wrong(name, "a text is needed")
    return value


def wrong(name: str, why: str) -> NoReturn:
    raise Refusal(f"Invalid value for {name!r}: {why}.", param=name)


_STEPS = ("sample_params.sample_steps", number(1, MAX_STEPS, whole=True))
_SAMPLER = ("sample_params.sample_method", _word)
_STRENGTH = ("strength", number(0, 1))
_TAKEN: Mapping[str, tuple[str, Reading]] = {
    "negative_prompt": ("negative_prompt", _text),
    "steps": _STEPS,
    "num_inference_steps": _STEPS,
    "sample_steps": _STEPS,
    "cfg_scale": ("sample_params.guidance.txt_cfg", number(0, 100)),
    "guidance": ("sample_params.guidance.distilled_guidance", number(0, 100)),
    "sampler": _SAMPLER,
    "sampler_name": _SAMPLER,
    "sample_method": _SAMPLER,
    "scheduler": ("sample_params.scheduler", _word),
    "eta": ("sample_params.eta", number(0, 10)),
    "flow_shift": ("sample_params.flow_shift", number(0, 100)),
    "clip_skip": ("clip_skip", number(-1, 12, whole=True)),
    "strength": _STRENGTH,
    "denoising_strength": _STRENGTH,
}
KNOWS = (f"images,edits {' '.join(_TAKEN)} seed",)
"""The fields above, for the card."""


def read(fields: Mapping[str, Any], listed: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The part of the body for ``/sdcpp/v1/img_gen`` that `fields` ask for. `listed`: the server's
    names for each ``sample_method`` and ``scheduler``. Raises Refusal."""
    found: dict[str, Any] = {}
    for name, (path, reading) in _TAKEN.items():
        value = fields.get(name)
        if value is None or value == "":
            continue
        *steps, last = path.split(".")  # each step is an object in the one before
        at = found
        for step in steps:
            at = at.setdefault(step, {})
        at[last] = reading(name, value)
        if names := listed.get(last):
            at[last] = _one_of(name, at[last], names)
    return found


def _one_of(field: str, name: str, names: Sequence[str]) -> str:
    """The server's spelling of a name; the WebUI writes ``Euler a`` and ``DPM++ 2M``. Unknown names
    are refused, because the server would silently take its default."""
    by_sound = {_bare(each): each for each in names}
    if (bare := _bare(name)) not in by_sound:
        wrong(field, f"there is no {name!r}; there are {', '.join(names)}")
    return by_sound[bare]


def _bare(name: str) -> str:
    return name.lower().replace(" ", "").replace("_", "")
