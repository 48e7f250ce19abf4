"""What a job costs: at most, before it is sent (`worst_case`), and by its usage (`cost`). Pure.

All money is whole micro-units, computed exactly and rounded up once. A `settings.Price` is in the
currency: for a million tokens, a picture, a minute, a million characters.

The bounds of `worst_case`, and why they hold:

- Text: each byte counts as a token. No tokenizer that falls back to bytes makes more tokens than
  bytes, and some make as many: those of Llama 2 and SmolLM2 for numbers and tables, and nearly as
  many for hex and names. English has four to five letters a token, so a prompt of prose is reserved
  three to four times over; mostly the answer costs more. The provider's template is added.
- A picture in a prompt: `IMAGE_TOKENS`, or what the list says of the model.
- Answers: `n` for each prompt, each up to the request's limit, else `OUTPUT_TOKENS`, which the
  request to the provider must then name as its limit. `output_limit` alone decides this.
- Sound: the length from frames or head (`duration`), else the length at `BYTES_A_SECOND`.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from pydantic import BaseModel, ConfigDict

from fallback.cost import media
from fallback.cost.spent import Spent
from fallback.credits.entries import MICRO
from fallback.policy import micro
from schemas.api.endpoints import ENDPOINTS, WORDS
from schemas.settings import Money, Price

IMAGE_TOKENS = 5000
"""Most tokens of a picture in a prompt, where the list names no number: Claude counts up to 4,784
(its page "Vision"), Gemini 258 for each tile of 768 pixels, OpenAI's models below 4,000 but one."""
OUTPUT_TOKENS = 4096
"""The limit of an answer where the request sets none; the provider is sent this limit."""
MESSAGE_TOKENS = 16
"""The most that a chat template adds to a message."""
TEMPLATE_TOKENS = 200
"""Tokens of a chat template before all messages: gpt-oss has some 90, Llama and Qwen 30."""
TOOL_TOKENS = 1000
"""Tokens of a chat template once there are tools, and for each tool that the provider describes
itself: Claude has up to 600 and 750 (its page "Pricing")."""
DRAFT_TOKENS = 100
"""Tokens of an unfinished picture in a stream (OpenAI's guide "Image generation")."""
LIMITS = sorted({name for endpoint in ENDPOINTS for name in endpoint.api.limits})
_PICTURES = ("image_url", "input_image", "image")
_PAYLOADS = {"image_url": "url", "source": "data"}
"""Where a part holds its picture: a field with the text, or an object whose field has the text."""
TEXT = ("input", "output")
NEEDED: Mapping[str, tuple[str, ...]] = {
    "chat": TEXT,
    "completions": TEXT,
    "responses": TEXT,
    "messages": TEXT,
    "count_tokens": (),
    "embeddings": ("input",),
    "moderations": ("input",),
    "images": ("image",),
    "edits": ("image",),
    "transcriptions": ("minute",),
    "translations": ("minute",),
    "speech": ("characters",),
}
"""The prices that a job needs, by the word of its endpoint; `images` may stand for "image". A job
that needs none is free."""


class Long(BaseModel):
    """Prices for prompts of more than `above` tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    above: int
    input: Money
    cached_input: Money | None = None
    output: Money


class ListPrice(Price):
    """A price of the built-in list."""

    long: Long | None = None
    image_tokens: int = IMAGE_TOKENS


PriceList = Mapping[tuple[str, str], Price]
"""By provider and model."""


class Unpriced(ValueError):
    """A price lacks what a job needs."""


def lacking(needed: Iterable[str], price: Price) -> list[str]:
    return [
        name
        for name in needed
        if getattr(price, name) is None and not (name == "image" and price.images)
    ]


def worst_case(endpoint: str, request: Mapping[str, Any], body_size: int, price: Price) -> int:
    """Micro-units that the job may cost at most.

    `request` is the body, or the fields of the form, where uploads are lists of bytes; `body_size`
    is the whole body's: the length is guessed from it if `request` has no recording. Raises
    Unpriced.
    """
    word = WORDS.get(endpoint, "")
    needed = NEEDED.get(word)
    lacks = [endpoint] if needed is None else lacking(needed, price)
    if lacks:
        raise Unpriced(f"{price.model} has no price for {', '.join(lacks)}")
    if not needed:
        return 0
    if word in ("images", "edits"):
        return _pictures(word, request, price)
    if word in ("transcriptions", "translations"):
        return _recording(request, body_size, price)
    if word == "speech":
        return cost(Spent(characters=len(str(request.get("input", "")))), price)
    return cost(_talk(word, request, price), price)


def _talk(word: str, request: Mapping[str, Any], price: Price) -> Spent:
    beside, written = 0, 0
    if NEEDED[word] == TEXT:
        beside = template_tokens(request)
        most = output_limit(request) + predicted_tokens(request)
        written = most * copies(request)
    if word == "completions":
        written *= prompts(request)
    read = prompt_tokens(request, _image_tokens(price), beside)
    return Spent(prompt=read, completion=written)


def _recording(request: Mapping[str, Any], body_size: int, price: Price) -> int:
    """The dearer of billing by the minute and by tokens: only the answer shows which one applies.
    OpenAI reports whole seconds, rounded up."""
    length = math.ceil(media.seconds(request.get("file"), body_size))
    text = media.texts(request)
    heard = length * media.AUDIO_TOKENS
    written = media.SPOKEN_LIMIT + length * media.SPOKEN_TOKENS
    told = Spent(prompt=prompt_tokens(text, 0, heard), completion=written, seconds=length)
    untold = replace(told, prompt=0, completion=0)
    return max(cost(told, price), cost(untold, price))


def _pictures(word: str, request: Mapping[str, Any], price: Price) -> int:
    read = 0
    if price.input is not None:
        given = media.pictures_given(request) if word == "edits" else 0
        text = media.texts(request)
        read = prompt_tokens(text, 0) + given * _image_tokens(price)
    quality, size = (str(request.get(name) or "") for name in ("quality", "size"))
    count = copies(request)
    most = cost(Spent(prompt=read, images=count, quality=quality, size=size), price)
    drafts = count * _drafts(request) * DRAFT_TOKENS
    return most + cost(Spent(completion=drafts), price)


def cost(spent: Spent, price: Price) -> int:
    """Micro-units for what was used, rounded up; a unit without a price costs nothing. A recording
    is paid by tokens where the provider reported them and they have a price, else by the minute.
    Pictures are paid by tokens or by the piece, whichever is more: providers report the unfinished
    pictures of a stream in tokens alone."""
    read, cached, written = _rates(price, spent.prompt)
    hits = min(spent.cached, spent.prompt)
    # Prices are for a million tokens. The sum is in millionths of a micro-unit, so that it stays in
    # whole numbers and is rounded once, at the end. `-(-a // b)` rounds up.
    total = (spent.prompt - hits) * read + hits * cached - (-spent.stored * read // 4)
    if spent.characters:
        total += spent.characters * micro(price.characters)
    drawn = spent.images * MICRO * _picture(price, spent.picture) if spent.images else 0
    total += max(spent.completion * written, drawn)
    if spent.seconds and not (spent.prompt and price.output is not None):
        total += math.ceil(Fraction(spent.seconds) * MICRO * micro(price.minute) / 60)
    return -(-total // MICRO)


def _rates(price: Price, prompt: int) -> tuple[int, int, int]:
    """The rates of a token read, a token read from the cache, and a token written."""
    long = getattr(price, "long", None)
    at = long if long is not None and prompt > long.above else price
    cached = at.input if at.cached_input is None else at.cached_input
    return micro(at.input), micro(cached), micro(at.output)


def _picture(price: Price, asked: str) -> int:
    """The price of one picture of ``quality/size``. Either part may be "" or "auto": the dearest
    price that fits is taken, or the dearest of all if none fits."""
    if not price.images:
        return micro(price.image)
    exact = price.images.get(asked)
    if exact is not None:
        return micro(exact)
    wanted = [part for part in asked.split("/") if part not in ("", "auto")]
    fitting = [each for key, each in price.images.items() if _fits(key, wanted)]
    if not fitting and price.image is not None:
        return micro(price.image)
    return micro(max(fitting or price.images.values()))


def _fits(key: str, wanted: list[str]) -> bool:
    # A price's key may name only a quality or only a size; each part that both name must agree.
    parts = key.split("/")
    return sum(part in wanted for part in parts) == min(len(parts), len(wanted))


def _image_tokens(price: Price) -> int:
    return price.image_tokens if isinstance(price, ListPrice) else IMAGE_TOKENS


def output_limit(request: Mapping[str, Any]) -> int:
    """Tokens that the answer may have: the request's own limit, else `OUTPUT_TOKENS`."""
    given = [request[name] for name in LIMITS if isinstance(request.get(name), int)]
    return max((each for each in given if each > 0), default=OUTPUT_TOKENS)


def is_limit(value: Any) -> bool:
    """Whether a field's value limits an answer. 0 does: it asks for the scores of the prompt."""
    return isinstance(value, int) and value >= 0


def predicted_tokens(request: Mapping[str, Any]) -> int:
    """Tokens of a predicted answer: providers charge those that the answer lacks like its own."""
    said = request.get("prediction")
    return prompt_tokens(said, 0) if isinstance(said, Mapping) else 0


def copies(request: Mapping[str, Any]) -> int:
    """How many answers or pictures are asked for."""
    given = [_whole(request.get(name)) for name in ("n", "best_of")]  # all of `best_of` are charged
    return max(1, *given)


def prompts(request: Mapping[str, Any]) -> int:
    """How many prompts a request for completions has: each gets its own answer."""
    given = request.get("prompt")
    if not isinstance(given, list) or not any(isinstance(each, str | list) for each in given):
        return 1
    return len(given)


def _whole(value: Any) -> int:
    """A number, also from a form's text; 0 for anything else."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return 0


def _drafts(request: Mapping[str, Any]) -> int:
    """Unfinished pictures that a stream shows before each finished one."""
    return max(0, _whole(request.get("partial_images")))


def prompt_tokens(request: Mapping[str, Any], image_tokens: int, beside: int = 0) -> int:
    """Most tokens of the prompt: of every text in the request (field names too), of its pictures
    and sound, and those `beside`. With `cache_control` all count twice, as a provider may charge up
    to twice the price for writing to its cache."""
    total, cached = beside, False
    # Not by recursion: orjson reads 1,024 levels, more than Python's stack takes.
    rest: list[Any] = [request]
    while rest:
        value = rest.pop()
        if isinstance(value, str):
            total += 1 + _bytes(value)
        elif isinstance(value, Mapping):
            cached = cached or "cache_control" in value
            tokens, read = _read(value, image_tokens)
            total += MESSAGE_TOKENS + tokens
            rest += [*read.keys(), *read.values()]
        elif isinstance(value, list | tuple):
            rest += value
        else:
            total += 1 + len(str(value))
    return total * (2 if cached else 1)


def template_tokens(request: Mapping[str, Any]) -> int:
    """Most tokens that the provider's template adds to the request's own words."""
    tools = request.get("tools") or request.get("functions")
    if not isinstance(tools, list) or not tools:
        return TEMPLATE_TOKENS
    named = (each.get("type") for each in tools if isinstance(each, Mapping))
    known = sum(kind not in (None, "function", "custom") for kind in named)
    return TEMPLATE_TOKENS + TOOL_TOKENS * (1 + known)


def _bytes(text: str) -> int:
    """Bytes of UTF-8. Some tokenizers first replace ligatures and the like with several letters
    (NFKC), so the longer form counts."""
    size = len(text.encode("utf-8", "surrogatepass"))
    if size == len(text):
        return size
    spelt = unicodedata.normalize("NFKC", text)
    return max(size, len(spelt.encode("utf-8", "surrogatepass")))


def _read(part: Mapping[str, Any], image_tokens: int) -> tuple[int, Mapping[str, Any]]:
    """(tokens of the picture or sound in `part`, the rest, which counts as text). Clients choose
    `type` freely, so only the one text with the picture or sound is taken out of the rest."""
    kind = part.get("type")
    if kind in _PICTURES:
        for name, inside in _PAYLOADS.items():
            held, kept = _without(part.get(name), inside)
            if held is not None:
                return image_tokens, {**part, name: kept}
    if kind == "input_audio":
        held, kept = _without(part.get(kind), "data")
        if held is not None:
            return media.tokens_of(held), {**part, kind: kept}
    return 0, part


def _without(value: Any, inside: str) -> tuple[str | None, Any]:
    """(the text that is `value` or is in its field `inside`, `value` without the text)."""
    if isinstance(value, str):
        return value, None
    found = value.get(inside) if isinstance(value, Mapping) else None
    return (found, {**value, inside: None}) if isinstance(found, str) else (None, value)
