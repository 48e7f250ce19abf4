"""Settings of routes, and of the cloud behind them: providers, prices, credits."""

from __future__ import annotations

from decimal import Decimal
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.settings.base import Money, Seconds, Section, Wait

EVERY = "*"
"""The name of a route for all names that nothing else answers to."""


class Route(Section):
    """Leads from a model name that clients use to a served model, to providers, or to both.

    `providers`: ``provider/model`` in the order of tries.
    """

    name: str = Field(min_length=1, max_length=256)
    model: str = Field("", max_length=256)
    claim: Wait | None = None
    first_token: Seconds | None = None
    total: Seconds | None = None
    providers: list[Annotated[str, Field(pattern="^[^/]+/.+$")]] = []
    local_only: bool = False
    max_price: Money = Decimal(0)
    hedge_after: Wait = 0.0
    unpaid: Literal["refuse", "wait"] = "refuse"
    hold_back: bool = False
    lenient: bool = False
    cache: bool | None = None

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Route:
        if self.name == EVERY and not self.model and not self.providers:
            raise ValueError("the route for every name needs a model, or providers")
        return self

    @property
    def served(self) -> str:
        """The model that serves this route."""
        return self.model or self.name

    @cached_property
    def provider_models(self) -> list[tuple[str, str]]:
        """The providers and the models there, in the order of tries."""
        return [
            (name, model) for name, _, model in (each.partition("/") for each in self.providers)
        ]

    @property
    def cloud(self) -> bool:
        """Whether providers may serve this route."""
        return bool(self.providers) and not self.local_only


class Routes(Section):
    """Default model, and the deadlines of routes that set none of their own."""

    default: str = ""
    claim: Wait = 2.0
    first_token: Seconds = 300.0
    total: Seconds = 600.0
    batch_claim: Seconds = 600.0
    batch_total: Seconds = 3600.0


class Provider(Section):
    """A paid cloud API. `url`: "" means the url of its kind. Only the fallback reads the key, from
    the environment variable `key_env` or the file `key_file`. `resumes`: how to tell its chat API
    to continue a last assistant message, if it can. `limit`: its name for the limit of an answer;
    "" means max_tokens, or the name that its kind uses."""

    name: str = Field(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    kind: Literal["openai", "google", "cloudflare", "anthropic", "compatible"] = "compatible"
    url: str = Field("", pattern="^(https?://[^/?#@]+[^?#]*)?$")
    key_env: str = ""
    key_file: str = ""
    account_id: str = ""
    concurrency: int = Field(16, ge=1, le=1024)
    connect_timeout: Seconds = 5.0
    silence: Seconds = 180.0
    resumes: Literal["never", "last", "prefix", "flag"] = "never"
    limit: Literal["", "max_tokens", "max_completion_tokens"] = ""

    @model_validator(mode="after")
    def _whole(self) -> Provider:
        if self.kind == "compatible" and not self.url:
            raise ValueError("a compatible provider needs its url")
        if self.kind == "cloudflare" and not self.url and not self.account_id:
            raise ValueError("cloudflare needs the account_id")
        if self.kind != "compatible" and self.resumes != "never":
            raise ValueError("resumes is for compatible providers; of the others it is known")
        if self.kind != "compatible" and self.limit:
            raise ValueError("limit is for compatible providers; of the others it is known")
        if self.key_env and self.key_file:
            raise ValueError("a provider's key is in key_env or in key_file, not in both")
        return self


class Price(Section):
    """A provider's price for a model, in `fallback.currency`. It overrides the built-in list."""

    provider: str = Field(min_length=1, max_length=64)
    model: str = Field(min_length=1, max_length=256)
    date: str = Field("", pattern="^([0-9]{4}-[0-9]{2}-[0-9]{2})?$")
    input: Money | None = None
    cached_input: Money | None = None
    output: Money | None = None
    image: Money | None = None
    images: dict[str, Money] = {}
    minute: Money | None = None
    characters: Money | None = None


class Fallback(Section):
    """The cloud side: sends jobs that no worker takes in time to providers."""

    enabled: bool = True
    currency: str = Field("USD", pattern="^[A-Z]{3}$")
    slots: int = Field(64, ge=1, le=4096)
    breaker_failures: int = Field(5, ge=1, le=1000)
    breaker_open: Seconds = 10.0
    sweep: Annotated[float, Field(ge=1, le=3600)] = 10.0
    grants_daily: Money = Decimal(10_000)
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(9480, ge=-1, le=65_535)
