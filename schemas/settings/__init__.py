"""All settings of all processes: one TOML file, then the environment, then flags.

`deploy/config.example.toml` documents the file; a test compares it with these classes.
Environment: ``HEADRACE_`` + the path joined by ``__`` (``HEADRACE_INGRESS__PORT=8080``).
"""

from __future__ import annotations

from schemas.settings.base import Money, Seconds, Section, SettingsError
from schemas.settings.cloud import Fallback, Ledger, Price, Provider, Route, Routes
from schemas.settings.engine import PLACEHOLDERS, Engine
from schemas.settings.sections import Ingress, Jobs, Key, Log, Nats, Worker
from schemas.settings.whole import ENV_PREFIX, FLAGS, Settings, load, outside, section_of

__all__ = [
    "ENV_PREFIX", "FLAGS", "PLACEHOLDERS", "Engine", "Fallback", "Ingress", "Jobs", "Key", "Ledger",
    "Log", "Money", "Nats", "Price", "Provider", "Route", "Routes", "Seconds", "Section",
    "Settings", "SettingsError", "Worker", "load", "outside", "section_of",
]  # fmt: skip
