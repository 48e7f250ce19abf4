"""Settings of traces and metrics by OpenTelemetry's protocol."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator

from schemas import hosts
from schemas.settings.base import Section


class Otel(Section):
    """`use`: "auto" is on once an endpoint is known, by `endpoint` or by the standard's own
    variables (OTEL_EXPORTER_OTLP_ENDPOINT and others). What is left out here is as those say.
    `sample`: the share of traces that begin here and are told of; others go by their caller."""

    use: Literal["off", "auto", "on"] = "auto"
    endpoint: str = ""
    headers: dict[str, SecretStr] = {}
    service: str = Field("", max_length=200)
    sample: Annotated[float, Field(ge=0, le=1)] | None = None
    most: int = Field(4096, ge=16, le=10**6)

    @field_validator("endpoint")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if value and not hosts.is_base(value):
            raise ValueError("the endpoint is no http:// or https:// address without a login")
        return value
