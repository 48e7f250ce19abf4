"""The one way to telemetry. Nothing of OpenTelemetry is imported where it is off."""

from __future__ import annotations

import os
from importlib import metadata
from typing import TYPE_CHECKING

import structlog

from schemas.otel import options
from schemas.settings import Otel, SettingsError

if TYPE_CHECKING:
    from schemas.otel.telemetry import Telemetry

log = structlog.get_logger("otel")

_LACKS = (
    "opentelemetry-proto is not installed: install it beside Headrace (it is the extra 'otel'), or "
    'set [otel] use = "off"'
)
_UNFIT = "opentelemetry-proto cannot be used with the protobuf that is installed"


def opened(config: Otel, process: str, instance: str) -> Telemetry | None:
    """The telemetry of this process; None if it is off. `process`: the kind, as "ingress";
    `instance`: its own name. Raises SettingsError if it is set to be on and cannot be. Variables of
    the environment alone may be meant for other programs, so they stop nothing."""
    if not options.is_on(config, os.environ):
        return None
    about = {
        "service.name": f"headrace-{process}",
        "service.version": metadata.version("headrace"),
        "service.instance.id": instance,
    }
    try:
        found = options.options(config, os.environ, about)
        return _made(found)
    except SettingsError as fault:
        if config.use == "on" or config.endpoint:
            raise
        log.warning("otel.off", why=str(fault))
        return None


def _made(found: options.Options) -> Telemetry:
    """Raises SettingsError."""
    try:
        from schemas.otel.telemetry import Telemetry
    except ImportError:
        raise SettingsError(_LACKS) from None
    except Exception as fault:  # noqa: BLE001 - protobuf has several for one that does not fit
        raise SettingsError(f"{_UNFIT}: {fault}") from None
    return Telemetry(found)
