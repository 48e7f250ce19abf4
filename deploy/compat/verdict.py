"""Whether a text is JSON of a schema; only for the schemas of probes, which are known to end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def fault_of(schema: Mapping[str, Any], text: str) -> str:
    """What is wrong, or ""."""
    # Imported here: its library takes a tenth of a second, which an ingress need not wait for.
    from ingress.answer import schema_child

    return schema_child.verdict(dict(schema), text)
