"""Why tests of others pass at llama-server and not through Headrace: what differs on purpose."""

from __future__ import annotations

DIFFERENCES: dict[str, tuple[tuple[str, str], ...]] = {}
"""By suite: a pattern of the tests' names, and the reason, as it stands on the page."""
