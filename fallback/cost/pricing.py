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
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from functools import cache
from importlib import resources
from typing import Any

from pydantic import BaseModel, ConfigDict

from fallback.cost import estimate
from fallback.cost.spent import Spent
from fallback.credits.entries import MICRO
from fallback.policy import micro
from schemas.api.endpoints import WORDS
from schemas.settings import Money, Price, Provider, Route

LIST = "pricing.toml"
LIST_CURRENCY = "USD"
IMAGE_TOKENS = 5000
"""Most tokens of a picture in a prompt, where the list names no number: Claude counts up to 4,784
(its page "Vision"), Gemini 258 for each tile of 768 pixels, OpenAI's models below 4,000 but one."""

_TEXT = ("input", "output")
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "chat": _TEXT,
    "completions": _TEXT,
    "responses": _TEXT,
    "messages": _TEXT,
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
_CLASSES = {
    "text": _TEXT,
    "embeddings or moderations": ("input",),
    "pictures": ("image or images",),
    "transcription": ("minute",),
    "speech": ("characters",),
}


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


class Prices:
    """`own` prices, then the built-in list. The list counts only if `currency` is its own."""

    def __init__(self, own: Iterable[Price] = (), currency: str = LIST_CURRENCY) -> None:
        self._own = {(price.provider, price.model): price for price in own}
        self._listed = listed() if currency == LIST_CURRENCY else {}

    def of_routes(self, routes: Iterable[Route], providers: Iterable[Provider]) -> PriceList:
        """The known prices of all models that `routes` lead to."""
        kinds = {provider.name: provider.kind for provider in providers}
        used = {each for route in routes if route.cloud for each in route.provider_models}
        priced = {(name, model): self.of(kinds[name], name, model) for name, model in used}
        return {place: price for place, price in priced.items() if price is not None}

    def of(self, kind: str, name: str, model: str) -> Price | None:
        """The price of `model` at the provider `name` of the `kind`; None if it is not known.

        A dated model (``o3-2025-04-16``) that the list does not have costs what its name without
        the date does.
        """
        own = self._own.get((name, model))
        return own or self._listed.get((kind, model)) or self._listed.get((kind, undated(model)))


@cache
def listed() -> dict[tuple[str, str], ListPrice]:
    """The built-in list by kind of provider and model."""
    # Decimal: a float would be near the listed price, and sums are exact here.
    raw = tomllib.loads(
        resources.files("fallback").joinpath(LIST).read_text("utf-8"), parse_float=Decimal
    )
    return {
        (kind, row["model"]): ListPrice.model_validate({"provider": kind, **row})
        for kind, rows in raw.items()
        for row in rows
    }


def undated(model: str) -> str:
    """``claude-haiku-4-5-20251001`` and ``o3-2025-04-16`` without the date."""
    parts = model.split("-")
    if len(parts) > 3 and [len(each) for each in parts[-3:]] == [4, 2, 2]:
        digits, short = "".join(parts[-3:]), parts[:-3]
    else:
        digits, short = parts[-1], parts[:-1]
    return "-".join(short) if digits.isdigit() and len(digits) == 8 and short else model


def missing(endpoint: str, price: Price) -> list[str]:
    """Fields that a job of `endpoint` needs and `price` lacks."""
    needed = _NEEDED.get(WORDS.get(endpoint, ""))
    return [f"a price for {endpoint}"] if needed is None else _lacking(needed, price)


def _lacking(needed: Iterable[str], price: Price) -> list[str]:
    return [
        name
        for name in needed
        if getattr(price, name) is None and not (name == "image" and price.images)
    ]


def check(routes: Iterable[Route], prices: PriceList) -> list[str]:
    """One line for each model of a route whose price does not suffice for any endpoint."""
    faults = []
    for route in routes:
        for name, model in route.provider_models if route.cloud else ():
            price, each = prices.get((name, model)), f"{name}/{model}"
            if price is None:
                faults.append(
                    f"route {route.name!r}: no price is known for {each}: add a table [[prices]] "
                    f'with provider = "{name}" and model = "{model}" and {_choices()}'
                )
            elif all(_lacking(needed, price) for needed in _NEEDED.values() if needed):
                faults.append(
                    f"route {route.name!r}: the price of {each} is not enough for any endpoint: "
                    f"it needs {_choices()}"
                )
    return faults


def _choices() -> str:
    each = [f"{' and '.join(names)} ({name})" for name, names in _CLASSES.items()]
    return ", ".join(each[:-1]) + f" or {each[-1]}"


def worst_case(endpoint: str, request: Mapping[str, Any], body_size: int, price: Price) -> int:
    """Micro-units that the job may cost at most.

    `request` is the body, or the fields of the form, where uploads are lists of bytes; `body_size`
    is the whole body's: the length is guessed from it if `request` has no recording. Raises
    ValueError if `price` lacks what the endpoint needs.
    """
    if lacks := missing(endpoint, price):
        raise ValueError(f"{price.provider}/{price.model} has no price for {', '.join(lacks)}")
    word = WORDS[endpoint]
    if not _NEEDED[word]:
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
    if _NEEDED[word] == _TEXT:
        beside = estimate.template_tokens(request)
        most = estimate.output_limit(request) + estimate.predicted_tokens(request)
        written = most * estimate.copies(request)
    if word == "completions":
        written *= estimate.prompts(request)
    read = estimate.prompt_tokens(request, _image_tokens(price), beside)
    return Spent(prompt=read, completion=written)


def _recording(request: Mapping[str, Any], body_size: int, price: Price) -> int:
    """The dearer of billing by the minute and by tokens: only the answer shows which one applies.
    OpenAI reports whole seconds, rounded up."""
    length = math.ceil(estimate.seconds(request.get("file"), body_size))
    text = estimate.texts(request)
    heard = length * estimate.AUDIO_TOKENS
    written = estimate.SPOKEN_LIMIT + length * estimate.SPOKEN_TOKENS
    told = Spent(prompt=estimate.prompt_tokens(text, 0, heard), completion=written, seconds=length)
    untold = replace(told, prompt=0, completion=0)
    return max(cost(told, price), cost(untold, price))


def _pictures(word: str, request: Mapping[str, Any], price: Price) -> int:
    read = 0
    if price.input is not None:
        given = estimate.pictures_given(request) if word == "edits" else 0
        text = estimate.texts(request)
        read = estimate.prompt_tokens(text, 0) + given * _image_tokens(price)
    quality, size = (str(request.get(name) or "") for name in ("quality", "size"))
    count = estimate.copies(request)
    most = cost(Spent(prompt=read, images=count, quality=quality, size=size), price)
    drafts = count * estimate.drafts(request) * estimate.DRAFT_TOKENS
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
