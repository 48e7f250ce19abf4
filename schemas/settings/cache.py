"""Settings of answers that are kept for requests that would get the same again."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.settings.base import Section


class Cache(Section):
    """`use`: "asked" is for requests and routes that ask for it, "on" for all that do not refuse
    it. `memory`: bytes in each ingress; `store`: in the broker, for all ingresses."""

    use: Literal["off", "asked", "on"] = "asked"
    ttl: Annotated[float, Field(ge=1, le=30 * 86_400)] = 3600.0
    shared: bool = False
    largest: int = Field(2**20, ge=1024, le=2**26)
    memory: int = Field(64 * 2**20, ge=0, le=2**34)
    store: int = Field(256 * 2**20, ge=2**20, le=2**44)
