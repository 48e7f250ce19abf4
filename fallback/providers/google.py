"""Google: chat and embeddings go to its OpenAI-compatible surface. Pictures go to its own API, as
the compatible surface has neither sizes nor Gemini's image models.

From the Gemini API's reference: ``models/*:generateContent`` (Gemini 2.5 Flash Image: one picture,
`imageConfig.aspectRatio`, tokens in `usageMetadata`) and ``models/*:predict`` (Imagen 4:
`sampleCount` 1 to 4, `aspectRatio`, no usage). The request's size becomes a ratio; the answer's
`size` is the size of the picture that came.
"""

from __future__ import annotations

import binascii
import time
from collections.abc import Mapping
from typing import Any

from fallback.cost.spent import Spent
from fallback.providers import kinds
from fallback.providers.base import Task
from fallback.providers.openai import OpenAIProvider
from schemas import pictures, settings
from schemas.api.piecewise_write import dump
from workers.engines.openai.refusal import JSON, Refusal

_IMAGEN = "imagen-"
_FLASH = "-flash"
_MOST = 4  # of Imagen: its `sampleCount`
_IMAGEN_RATIOS = ("1:1", "3:4", "4:3", "9:16", "16:9")
_GEMINI_RATIOS = (*_IMAGEN_RATIOS, "2:3", "3:2", "4:5", "5:4", "21:9")
_NEAR = 0.03
"""How far a size may be off a ratio: 1792x1024, a size of DALL·E 3, counts as 16:9."""


class Google(OpenAIProvider):
    def __init__(self, config: settings.Provider) -> None:
        """The configured address may be that of either surface."""
        super().__init__(config)
        self._url = self._url.removesuffix("/openai")

    def unfit(self, task: Task) -> str:
        why = super().unfit(task) or _unpriced(task)
        if why or task.job.endpoint != kinds.IMAGES:
            return why
        most = _MOST if task.model.startswith(_IMAGEN) else 1
        if (task.request.get("n") or 1) > most:
            return f"{task.model} draws at most {most} at a time"
        size = task.request.get("size")
        if size not in (None, "auto") and not ratio(task.model, size):
            return f"{task.model} has no size with the shape of {size}"
        return ""

    def _address(self, task: Task) -> str:
        if task.job.endpoint != kinds.IMAGES:
            return super()._address(task)
        verb = "predict" if task.model.startswith(_IMAGEN) else "generateContent"
        return f"{self._url}/models/{task.model}:{verb}"

    async def _body(self, task: Task) -> tuple[bytes, str]:
        if task.job.endpoint != kinds.IMAGES:
            return await super()._body(task)
        make = _predict if task.model.startswith(_IMAGEN) else _generate
        return await dump(make(task)), JSON

    async def _read(self, task: Task, body: bytes, content_type: str) -> tuple[Spent, bytes, str]:
        if task.job.endpoint != kinds.IMAGES:
            return await super()._read(task, body, content_type)
        found = await self._object(task, body)
        try:
            drawn = _predicted(found) if task.model.startswith(_IMAGEN) else _generated(found)
            size = _size(drawn[0]) if drawn else ""
        except (KeyError, TypeError, AttributeError, ValueError):
            raise self._failed("sent something that is no picture") from None
        if not drawn:
            raise _nothing(self.name, found)
        prompt, completion = _tokens(found)
        answer: dict[str, Any] = {
            "created": int(time.time()),
            "data": [{"b64_json": each} for each in drawn],
            "output_format": "png",
            "size": size,
        }
        if prompt or completion:
            total = {"input_tokens": prompt, "output_tokens": completion}
            answer["usage"] = {**total, "total_tokens": prompt + completion}
        quality = str(task.request.get("quality") or "")
        asked = str(task.request.get("size") or "")
        spent = Spent(prompt, completion, images=len(drawn), size=asked or size, quality=quality)
        return spent, await dump(answer), JSON


def _unpriced(task: Task) -> str:
    """Why the price would not cover the request; "" if it would. Flash costs three times as much
    for sound as for text (the page "Gemini Developer API pricing"), and usage reports their sum."""
    if task.job.endpoint == kinds.CHAT and _FLASH in task.model and _has_sound(task.request):
        return f"{task.model} takes more for sound than for text, and does not tell how much"
    return ""


def _has_sound(request: Mapping[str, Any]) -> bool:
    contents = (message.get("content") for message in request.get("messages") or ())
    parts = (part for content in contents if isinstance(content, list) for part in content)
    return any(isinstance(part, dict) and "input_audio" in part for part in parts)


def ratio(model: str, size: str) -> str:
    """Google's ratio for a size ``WIDTHxHEIGHT``; "" if the model has no ratio near it."""
    wanted = _quotient(size, "x")
    known = _IMAGEN_RATIOS if model.startswith(_IMAGEN) else _GEMINI_RATIOS
    off = {each: abs(_quotient(each, ":") / wanted - 1) for each in known}
    best = min(off, key=off.__getitem__)
    return best if off[best] <= _NEAR else ""


def _quotient(shape: str, by: str) -> float:
    width, _, height = shape.partition(by)
    return int(width) / int(height)


def _shape(task: Task) -> dict[str, str]:
    size = task.request.get("size")
    return {} if size in (None, "auto") else {"aspectRatio": ratio(task.model, str(size))}


def _predict(task: Task) -> dict[str, Any]:
    parameters = {"sampleCount": task.request.get("n") or 1, **_shape(task)}
    return {"instances": [{"prompt": task.request["prompt"]}], "parameters": parameters}


def _generate(task: Task) -> dict[str, Any]:
    config: dict[str, Any] = {"responseModalities": ["IMAGE"]}
    if shape := _shape(task):
        config["imageConfig"] = shape
    content = {"role": "user", "parts": [{"text": task.request["prompt"]}]}
    return {"contents": [content], "generationConfig": config}


def _predicted(found: Mapping[str, Any]) -> list[str]:
    return [
        each["bytesBase64Encoded"]
        for each in found.get("predictions") or ()
        if "bytesBase64Encoded" in each
    ]


def _generated(found: Mapping[str, Any]) -> list[str]:
    return [
        part["inlineData"]["data"]
        for candidate in found.get("candidates") or ()
        for part in (candidate.get("content") or {}).get("parts") or ()
        if "inlineData" in part and not part.get("thought")
    ]


def _size(base64: str) -> str:
    """The size of the picture itself. Raises ValueError."""
    seen = pictures.inspect(binascii.a2b_base64(base64))
    return f"{seen.width}x{seen.height}"


def _tokens(found: Mapping[str, Any]) -> tuple[int, int]:
    """(tokens of the prompt, tokens of the output); thoughts count as output."""
    usage = found.get("usageMetadata") or {}
    output = ("candidatesTokenCount", "thoughtsTokenCount")
    return usage.get("promptTokenCount", 0), sum(usage.get(name, 0) for name in output)


def _nothing(name: str, found: Mapping[str, Any]) -> Refusal:
    """The refusal for an answer without pictures: Google's filters use the status 200."""
    candidate: Mapping[str, Any] = next(iter(found.get("candidates") or ()), {})
    prediction: Mapping[str, Any] = next(iter(found.get("predictions") or ()), {})
    why = (
        (found.get("promptFeedback") or {}).get("blockReason")
        or prediction.get("raiFilteredReason")
        or candidate.get("finishReason")
        or "no reason given"
    )
    return Refusal(
        f"The provider drew nothing: {why}.",
        param="prompt",
        code="content_policy_violation",
        source=f"provider:{name}",
    )
