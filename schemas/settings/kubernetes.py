"""Variables that Kubernetes sets for each Service of a namespace, which are no settings of ours.

A Service named ``headrace`` gives ``HEADRACE_PORT=tcp://10.0.0.7:8080``, ``HEADRACE_SERVICE_HOST``
and so on, ``headrace-nats`` the same with ``HEADRACE_NATS_``.
https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping

from schemas.settings.base import ENV_PREFIX, NESTED

_PROTOCOL = "(?:TCP|UDP|SCTP)"
_URL = re.compile("(?:tcp|udp|sctp)://.+:[0-9]+")


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _is_url(value: str) -> bool:
    return _URL.fullmatch(value) is not None


_FORMS: tuple[tuple[re.Pattern[str], Callable[[str], bool]], ...] = (
    (re.compile(r".*_SERVICE_HOST"), _is_address),
    (re.compile(r".*_SERVICE_PORT(_\w+)?"), str.isdecimal),
    (re.compile(r".*_PORT"), _is_url),
    (re.compile(rf".*_PORT_[0-9]+_{_PROTOCOL}"), _is_url),
    (re.compile(rf".*_PORT_[0-9]+_{_PROTOCOL}_PROTO"), ("tcp", "udp", "sctp").__contains__),
    (re.compile(rf".*_PORT_[0-9]+_{_PROTOCOL}_PORT"), str.isdecimal),
    (re.compile(rf".*_PORT_[0-9]+_{_PROTOCOL}_ADDR"), _is_address),
)
"""Names, and what stands in each. A value of another form is of somebody who meant a setting."""


def service_variables(environment: Mapping[str, str]) -> list[str]:
    """The names, in order, that begin as our settings do and are those of a Service."""
    return sorted(name for name, value in environment.items() if _is_one(name, value))


def _is_one(name: str, value: str) -> bool:
    # Behind a doubled underscore stands a setting: HEADRACE_INGRESS__PORT.
    if not name.startswith(ENV_PREFIX) or NESTED in name:
        return False
    return any(form.fullmatch(name) and fits(value) for form, fits in _FORMS)
