"""What is told, and where: the settings go before the standard's variables."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.otel.opened import opened
from schemas.otel.options import Options, is_on, options
from schemas.settings import Otel, SettingsError

ABOUT = {"service.name": "headrace-ingress"}
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
HERE = "http://collector:4318"


def found(environment: Mapping[str, str] = MappingProxyType({}), **config: Any) -> Options:
    return options(Otel(**config), environment, ABOUT)


@pytest.mark.parametrize(
    ("config", "environment", "on"),
    [
        ({}, {}, False),
        ({}, {ENDPOINT: HERE}, True),
        ({}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": HERE}, True),
        ({"endpoint": HERE}, {}, True),
        ({"use": "on"}, {}, True),
        ({"use": "off", "endpoint": HERE}, {ENDPOINT: HERE}, False),
        ({"use": "on"}, {"OTEL_SDK_DISABLED": "TRUE"}, False),
        ({"endpoint": HERE}, {"OTEL_SDK_DISABLED": "false"}, True),
        ({}, {ENDPOINT: ""}, False),
    ],
)
def test_whether_it_is_on(config: Any, environment: dict[str, str], on: bool) -> None:
    assert is_on(Otel(**config), environment) is on


def test_paths_are_added_to_a_common_endpoint() -> None:
    expected = {"traces": f"{HERE}/v1/traces", "metrics": f"{HERE}/v1/metrics"}
    assert found({ENDPOINT: f"{HERE}/"}).urls == expected
    assert found({ENDPOINT: "http://other:4318"}, endpoint=HERE).urls == expected
    assert found(use="on").urls["traces"] == "http://localhost:4318/v1/traces"


def test_an_endpoint_of_one_signal_is_taken_as_it_is() -> None:
    own = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://tempo:4318/x"}
    assert found(own).urls == {"traces": "http://tempo:4318/x"}
    assert found({**own, ENDPOINT: HERE}).urls["metrics"] == f"{HERE}/v1/metrics"


def test_a_signal_can_be_left_out() -> None:
    assert list(found({ENDPOINT: HERE, "OTEL_METRICS_EXPORTER": "none"}).urls) == ["traces"]


def test_headers_of_all_sources() -> None:
    given = {
        ENDPOINT: HERE,
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Basic%20abc, x = 1",
        "OTEL_EXPORTER_OTLP_METRICS_HEADERS": "x=2",
    }
    headers = found(given, headers={"y": "3"}).headers
    assert headers["traces"] == {"authorization": "Basic abc", "x": "1", "y": "3"}
    assert headers["metrics"] == {"x": "2", "y": "3"}


@pytest.mark.parametrize(
    ("environment", "by_caller", "ratio"),
    [
        ({}, True, 1.0),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, False, 0.0),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, True, 0.0),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}, False, 0.25),
        ({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}, True, 1.0),
    ],
)
def test_samplers(environment: dict[str, str], by_caller: bool, ratio: float) -> None:
    told = found(environment)
    assert (told.by_caller, told.ratio) == (by_caller, ratio)
    told = found(environment, sample=0.5)
    assert (told.by_caller, told.ratio) == (True, 0.5)


def test_what_is_said_of_the_process() -> None:
    given = {"OTEL_RESOURCE_ATTRIBUTES": "a=b%2Cc,service.name=first"}
    assert found(given).resource == {"service.name": "first", "a": "b,c"}
    given["OTEL_SERVICE_NAME"] = "second"
    assert found(given).resource["service.name"] == "second"
    assert found(given, service="third").resource["service.name"] == "third"


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"OTEL_TRACES_SAMPLER": "sometimes"}, "OTEL_TRACES_SAMPLER: 'sometimes'"),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"}, "share from 0"),
        ({ENDPOINT: HERE, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "only http/protobuf"),
        ({ENDPOINT: HERE, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, "OTLP_TRACES_PROTOCOL is"),
        ({ENDPOINT: HERE, "OTEL_EXPORTER_OTLP_METRICS_HEADERS": "a-secret"}, "OTLP_METRICS_HEAD"),
        ({"OTEL_BSP_SCHEDULE_DELAY": "5s"}, "milliseconds"),
        ({ENDPOINT: HERE, "OTEL_EXPORTER_OTLP_HEADERS": "a-secret"}, "name=value"),
        ({ENDPOINT: HERE, "OTEL_EXPORTER_OTLP_HEADERS": "a=x%0d%0aEvil: 1"}, "a letter"),
        ({ENDPOINT: "http://[::1"}, "is no URL"),
        ({ENDPOINT: "http://a-secret:99999"}, "is no URL"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "collector:4318/a-secret"}, "is no URL"),
        ({ENDPOINT: "ftp://collector"}, "is no URL"),
    ],
)
def test_faults_are_told_without_secrets(environment: dict[str, str], told: str) -> None:
    with pytest.raises(SettingsError, match=told) as caught:
        found(environment)
    assert "a-secret" not in str(caught.value)


def test_a_login_in_an_address_is_refused() -> None:
    with pytest.raises(ValidationError):
        Otel(endpoint="http://user:secret@collector:4318")


def test_a_protobuf_that_does_not_fit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so while it is imported, by an error of its own."""

    class Unfit(ModuleType):
        def __getattr__(self, name: str) -> None:
            raise TypeError("Descriptors cannot be created directly")

    name = "schemas.otel.telemetry"
    monkeypatch.setitem(sys.modules, name, Unfit(name))
    with pytest.raises(SettingsError, match="protobuf that is installed: Descriptors"):
        opened(Otel(use="on"), "ingress", "i")
    monkeypatch.setenv(ENDPOINT, HERE)
    assert opened(Otel(), "ingress", "i") is None, "the variables may be meant for others"
