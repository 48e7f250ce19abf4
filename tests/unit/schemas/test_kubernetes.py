"""Which variables of the environment are those of a Kubernetes Service, and no settings."""

from __future__ import annotations

import pytest

from schemas.settings import SettingsError, load, passed_over
from schemas.settings.kubernetes import service_variables


def injected(service: str, address: str = "10.3.0.7", port: int = 8080) -> dict[str, str]:
    """What Kubernetes 1.32 sets for a Service with one port, named http."""
    at, url = f"{service.upper().replace('-', '_')}", f"tcp://{address}:{port}"
    return {
        f"{at}_SERVICE_HOST": address,
        f"{at}_SERVICE_PORT": str(port),
        f"{at}_SERVICE_PORT_HTTP": str(port),
        f"{at}_PORT": url,
        f"{at}_PORT_{port}_TCP": url,
        f"{at}_PORT_{port}_TCP_PROTO": "tcp",
        f"{at}_PORT_{port}_TCP_PORT": str(port),
        f"{at}_PORT_{port}_TCP_ADDR": address,
    }


SERVICES = ("headrace", "headrace-ingress", "headrace-nats", "headrace-worker-2")


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("address", ["10.3.0.7", "fd00::7"])
def test_all_that_a_service_sets_is_known(service: str, address: str) -> None:
    found = injected(service, address)
    assert service_variables(found) == sorted(found)


def test_a_service_of_another_name_is_not_ours() -> None:
    assert service_variables(injected("mill")) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HEADRACE_INGRESS__PORT", "tcp://10.3.0.7:8080"),
        ("HEADRACE_INGRESS__SERVICE_HOST", "10.3.0.7"),
        ("HEADRACE_PORT", "8080"),
        ("HEADRACE_SERVICE_HOST", "ingress.local"),
        ("HEADRACE_SERVICE_PORT", "http"),
        ("HEADRACE_PORT_8080_TCP_PROTO", "http"),
        ("HEADRACE_PORT_TCP", "tcp://10.3.0.7:8080"),
    ],
)
def test_what_somebody_meant_as_a_setting_is_not_passed_over(name: str, value: str) -> None:
    assert service_variables({name: value}) == []


def test_settings_beside_those_of_services_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    services = {name: value for each in SERVICES for name, value in injected(each).items()}
    for name, value in services.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HEADRACE_INGRESS__PORT", "2222")
    assert load().ingress.port == 2222
    assert passed_over() == sorted(services)
    monkeypatch.setenv("HEADRACE_INGRESS_PORTS", "2222")
    with pytest.raises(SettingsError) as fault:
        load()
    told = "HEADRACE_INGRESS_PORTS: unknown setting; did you mean 'HEADRACE_INGRESS__PORT'?"
    assert str(fault.value) == told
