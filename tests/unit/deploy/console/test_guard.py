from __future__ import annotations

import pytest

from deploy.console.guard import Barred, Guard

OWN = Guard()
NAMED = Guard.of("https://Console.example/")


def barred(guard: Guard, changes: bool = False, **headers: str) -> int:
    """The status of the refusal; 0 if there is none."""
    try:
        guard.check(
            {name.replace("_", "-"): text for name, text in headers.items()}, changes=changes
        )
    except Barred as why:
        return why.status
    return 0


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8480", "localhost:8480", "[::1]:8480", "192.168.1.7", "LOCALHOST."]
)
def test_addresses_and_localhost_are_ours(host: str) -> None:
    assert barred(OWN, host=host) == 0


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:8480", "", "console.example"]
)
def test_other_names_are_not(host: str) -> None:
    assert barred(OWN, host=host) == 421


def test_the_public_name_is_ours_also_behind_a_proxy_that_hides_it() -> None:
    origin = "https://console.example"
    assert barred(NAMED, True, host="console.example", origin=origin) == 0
    assert barred(NAMED, True, host="127.0.0.1:8480", origin=origin) == 0
    assert barred(NAMED, True, host="console.example", origin="https://evil.example") == 403


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:3000", "http://localhost:8480", "null"]
)
def test_a_page_elsewhere_gets_nothing_though_browsers_send_it_our_cookie(origin: str) -> None:
    for changes in (False, True):
        assert barred(OWN, changes, host="127.0.0.1:8480", origin=origin) == 403


def test_what_changes_something_names_its_origin() -> None:
    assert barred(OWN, True, host="127.0.0.1:8480") == 403
    assert barred(OWN, True, host="127.0.0.1:8480", origin="http://127.0.0.1:8480") == 0
    assert barred(OWN, False, host="127.0.0.1:8480") == 0


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_link_elsewhere_may_lead_here_and_nothing_may_be_fetched(site: str) -> None:
    host = "127.0.0.1:8480"
    assert barred(OWN, host=host, sec_fetch_site=site, sec_fetch_mode="navigate") == 0
    assert barred(OWN, host=host, sec_fetch_site=site, sec_fetch_mode="no-cors") == 403
