"""Settings of alerts about budgets."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from schemas.settings.base import Section

_URL = re.compile(r"https?://[^/?#@\s]+([/?][^#\s]*)?")
Percent = Annotated[int, Field(ge=1, le=100)]


def _is_url(value: SecretStr) -> SecretStr:
    if value.get_secret_value() and not _URL.fullmatch(value.get_secret_value()):
        raise ValueError("the webhook's url is no http:// or https:// address without a login")
    return value


class Alerts(Section):
    """When and where it is said that budgets run out. `url` is a secret, as many services have one
    in it. `secret`, or what the file `secret_file` holds, signs what is sent."""

    url: Annotated[SecretStr, AfterValidator(_is_url)] = SecretStr("")
    secret: SecretStr = SecretStr("")
    secret_file: str = ""
    thresholds: list[Percent] = Field([80, 100], min_length=1, max_length=10)
    timeout: float = Field(10.0, ge=1, le=20)

    @field_validator("thresholds")
    @classmethod
    def _ascending(cls, value: list[int]) -> list[int]:
        return sorted(set(value))

    @model_validator(mode="after")
    def _one_secret(self) -> Alerts:
        if self.secret.get_secret_value() and self.secret_file:
            raise ValueError("the secret is in secret or in secret_file, not in both")
        return self
