"""What is told of, how much of it and where: by the settings, and where these say nothing by the
variables that OpenTelemetry's specification gives to all programs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from schemas import hosts
from schemas.settings import Otel, SettingsError

DEFAULT = "http://localhost:4318"
TRACES, METRICS = "traces", "metrics"
_ALL = "OTEL_EXPORTER_OTLP_"
_SAMPLERS = {
    "always_on": (False, 1.0),
    "always_off": (False, 0.0),
    "traceidratio": (False, None),
    "parentbased_always_on": (True, 1.0),
    "parentbased_always_off": (True, 0.0),
    "parentbased_traceidratio": (True, None),
}
"""By name: whether a caller decides for its own traces, and the share; None: by the argument."""


@dataclass(frozen=True, slots=True)
class Options:
    """`urls`: by signal, those that are told. `headers`: by signal, with secrets. `ratio`: share of
    traces that begin here; `by_caller`: other traces are told of if their caller does. `resource`:
    what is said of this process. `ca`: a file with certificates to trust, "" for the system's.
    `delay`, `interval`, `timeout`: seconds until spans are sent, between two tellings of metrics,
    and for an answer. `most`: requests that wait to be told of."""

    urls: Mapping[str, str]
    headers: Mapping[str, Mapping[str, str]]
    ratio: float
    by_caller: bool
    resource: Mapping[str, str]
    ca: str
    delay: float
    interval: float
    timeout: float
    most: int


def options(config: Otel, environment: Mapping[str, str], about: Mapping[str, str]) -> Options:
    """`about`: what is said of this process, unless somebody says otherwise. Raises SettingsError
    for what cannot be done as it is asked for."""
    said = {name: value for name, value in environment.items() if value}  # empty: not set
    urls = {signal: url for signal in (TRACES, METRICS) if (url := _url(config, said, signal))}
    headers = {signal: _headers(config, said, signal) for signal in urls}
    for signal in urls:
        name, protocol = _of(said, signal, "PROTOCOL")
        if protocol not in ("", "http/protobuf"):
            why = "only http/protobuf is spoken here: leave it out, and give the port for HTTP"
            raise SettingsError(f"{name} is {protocol!r}, and {why} (4318)")
    resource = {**about, **_pairs(said.get("OTEL_RESOURCE_ATTRIBUTES", ""), "OTEL_RESOURCE")}
    if service := config.service or said.get("OTEL_SERVICE_NAME"):
        resource["service.name"] = service
    by_caller, ratio = _sampler(said)
    if config.sample is not None:
        by_caller, ratio = True, config.sample
    times = (
        _milliseconds(said, "OTEL_BSP_SCHEDULE_DELAY", 5000),
        _milliseconds(said, "OTEL_METRIC_EXPORT_INTERVAL", 60_000),
        _milliseconds(said, f"{_ALL}TIMEOUT", 10_000),
    )
    ca = said.get(f"{_ALL}CERTIFICATE", "")
    return Options(urls, headers, ratio, by_caller, resource, ca, *times, config.most)


def is_on(config: Otel, environment: Mapping[str, str]) -> bool:
    """Whether anything is told at all."""
    if config.use == "off" or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    named = (f"{_ALL}{each}ENDPOINT" for each in ("", "TRACES_", "METRICS_"))
    return config.use == "on" or bool(config.endpoint) or any(map(environment.get, named))


def _url(config: Otel, said: Mapping[str, str], signal: str) -> str:
    """Where a signal goes; "" if it is not told."""
    if said.get(f"OTEL_{signal.upper()}_EXPORTER", "otlp") == "none":
        return ""
    if not config.endpoint and (own := said.get(f"{_ALL}{signal.upper()}_ENDPOINT")):
        return _checked(own)  # as it is: the specification has it so
    base = config.endpoint or said.get(f"{_ALL}ENDPOINT") or ""
    if not base and config.use != "on":
        return ""  # the other one alone has an address
    return _checked(f"{(base or DEFAULT).rstrip('/')}/v1/{signal}")


def _checked(url: str) -> str:
    """Raises SettingsError for what is no address that can be asked. It is not shown, as it may
    have a password."""
    if not hosts.is_web(url):
        raise SettingsError("OpenTelemetry's endpoint is no URL such as http://localhost:4318")
    return url


def _of(said: Mapping[str, str], signal: str, name: str) -> tuple[str, str]:
    """The variable that counts for a signal, and what it says."""
    own, all = f"{_ALL}{signal.upper()}_{name}", f"{_ALL}{name}"
    return (own, said[own]) if own in said else (all, said.get(all, ""))


def _headers(config: Otel, said: Mapping[str, str], signal: str) -> dict[str, str]:
    name, text = _of(said, signal, "HEADERS")
    found = _pairs(text, name)
    found |= {name: value.get_secret_value() for name, value in config.headers.items()}
    if any(not (name + value).isprintable() for name, value in found.items()):
        raise SettingsError("a header for OpenTelemetry's endpoint has a letter that none may have")
    return found


def _pairs(text: str, where: str) -> dict[str, str]:
    """``a=b,c=d``, escaped as in URLs. The values may be secrets, so none is shown."""
    found: dict[str, str] = {}
    for each in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = each.partition("=")
        if not equals or not name.strip():
            raise SettingsError(f"{where}: write name=value,name=value")
        found[unquote(name.strip())] = unquote(value.strip())
    return found


def _sampler(said: Mapping[str, str]) -> tuple[bool, float]:
    name = said.get("OTEL_TRACES_SAMPLER", "parentbased_always_on")
    if name not in _SAMPLERS:
        known = ", ".join(_SAMPLERS)
        raise SettingsError(f"OTEL_TRACES_SAMPLER: {name!r} is not known here; there are {known}")
    by_caller, ratio = _SAMPLERS[name]
    if ratio is not None:
        return by_caller, ratio
    given = said.get("OTEL_TRACES_SAMPLER_ARG", "1")
    try:
        ratio = float(given)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise SettingsError(f"OTEL_TRACES_SAMPLER_ARG: {given!r} is no share from 0 to 1")
    return by_caller, ratio


def _milliseconds(said: Mapping[str, str], name: str, default: int) -> float:
    """In seconds; at least 0.01."""
    given = said.get(name, str(default))
    if not given.isdecimal() or len(given) > 9:
        raise SettingsError(f"{name}: {given!r} are no milliseconds")
    return max(0.01, int(given) / 1000)
