"""The prices of models: one's own, then those of the built-in list, and whether they suffice."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from decimal import Decimal
from functools import cache
from importlib import resources

from fallback.cost.pricing import NEEDED, TEXT, ListPrice, PriceList, lacking
from schemas.settings import Price, Provider, Route

LIST = "pricing.toml"
LIST_CURRENCY = "USD"

_CLASSES = {
    "text": TEXT,
    "embeddings or moderations": ("input",),
    "pictures": ("image or images",),
    "transcription": ("minute",),
    "speech": ("characters",),
}


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
            elif all(lacking(needed, price) for needed in NEEDED.values() if needed):
                faults.append(
                    f"route {route.name!r}: the price of {each} is not enough for any endpoint: "
                    f"it needs {_choices()}"
                )
    return faults


def _choices() -> str:
    each = [f"{' and '.join(names)} ({name})" for name, names in _CLASSES.items()]
    return ", ".join(each[:-1]) + f" or {each[-1]}"
