"""Where a worker's page of metrics is, and what happens if its port is taken."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import pytest
from prometheus_client import start_http_server
from structlog.testing import capture_logs

from schemas.settings import Fallback, SettingsError, Worker
from workers import metrics_page


@pytest.fixture(autouse=True)
def _closed_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    opened = list[Any]()

    def start(port: int, host: str) -> Any:
        found = start_http_server(port, host)
        opened.append(found)
        return found

    monkeypatch.setattr(metrics_page, "start_http_server", start)
    yield
    for server, thread in opened:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another program has, and behind which there are some more."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def default(port: int) -> Worker:
    """Settings that say nothing of the port, whose default is `port`."""
    return Worker.model_construct(set(), metrics_host="127.0.0.1", metrics_port=port)


def test_the_defaults_of_the_roles_are_as_far_apart_as_ports_are_tried() -> None:
    assert Fallback().metrics_port - Worker().metrics_port == metrics_page.NEXT


def test_a_free_port_is_used_and_the_page_is_there() -> None:
    with capture_logs() as said:
        at = metrics_page.serve("worker", Worker(metrics_port=0)).address
    (line,) = said
    assert (line["event"], line["url"]) == ("worker.metrics", f"http://{at}/metrics")
    assert "moved_from" not in line
    with urlopen(line["url"]) as answer:
        assert b"headrace_slots" in answer.read()


def test_a_default_port_that_is_taken_leads_to_the_next(taken: int) -> None:
    with capture_logs() as said:
        at = metrics_page.serve("worker", default(taken)).address
    assert at != f"127.0.0.1:{taken}"
    assert said[0]["moved_from"] == taken


def test_if_all_of_them_are_taken_it_is_any(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_page, "NEXT", 1)
    assert metrics_page.serve("worker", default(taken)).address not in ("", f":{taken}")


def test_a_port_that_was_chosen_must_be_free(taken: int) -> None:
    with pytest.raises(SettingsError) as fault:
        metrics_page.serve("worker", Worker(metrics_port=taken))
    said = str(fault.value)
    assert said.startswith("[worker] metrics_port: /metrics cannot listen on 127.0.0.1:")
    assert said.endswith("in use. Set another port, 0 for any free one, or -1 for no page")


def test_an_address_that_is_not_here_is_told() -> None:
    with pytest.raises(SettingsError, match=r"cannot listen on 192\.0\.2\.1:"):
        metrics_page.serve("fallback", Fallback(metrics_host="192.0.2.1"))


def test_off_is_no_page() -> None:
    with capture_logs() as said:
        assert metrics_page.serve("worker", Worker(metrics_port=-1)).address == ""
    assert said == []
