"""All settings of all processes: one TOML file, then the environment, then flags.

`deploy/config.example.toml` documents the file; a test compares it with these classes.
Environment: ``HEADRACE_`` + the path joined by ``__`` (``HEADRACE_INGRESS__PORT=8080``).
"""

from __future__ import annotations

from schemas.settings.alerts import Alerts
from schemas.settings.base import ENV_PREFIX, Money, Seconds, Section, SettingsError
from schemas.settings.cache import Cache
from schemas.settings.cloud import Fallback, Price, Provider, Route, Routes
from schemas.settings.console import Console
from schemas.settings.engine import PLACEHOLDERS, Engine, apart
from schemas.settings.otel import Otel
from schemas.settings.sections import Ingress, Jobs, Key, Log, Login, Nats, Worker
from schemas.settings.share import Share
from schemas.settings.whole import FLAGS, Settings, load, outside, passed_over, section_of

__all__ = [
    "ENV_PREFIX",
    "FLAGS",
    "PLACEHOLDERS",
    "Alerts",
    "Cache",
    "Console",
    "Engine",
    "Fallback",
    "Ingress",
    "Jobs",
    "Key",
    "Log",
    "Login",
    "Money",
    "Nats",
    "Otel",
    "Price",
    "Provider",
    "Route",
    "Routes",
    "Seconds",
    "Section",
    "Settings",
    "SettingsError",
    "Share",
    "Worker",
    "apart",
    "load",
    "outside",
    "passed_over",
    "section_of",
]  # fmt: skip
