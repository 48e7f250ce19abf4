"""Types and the base class that all sections of the settings share."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

ENV_PREFIX = "HEADRACE_"
NESTED = "__"
"""Stands between section and setting in the environment: ``HEADRACE_INGRESS__PORT``."""
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Wait = Annotated[float, Field(ge=0, le=3600)]
"""Seconds; 0 is allowed."""
Money = Annotated[Decimal, Field(ge=0, le=1_000_000, decimal_places=6)]


class SettingsError(ValueError):
    """The configuration is wrong; the message names the key and says what would be right."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
