"""The pages by which one signs in, without pages behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from deploy import home
from deploy.console import links, sign_in, signin
from deploy.console.edge import AWAY, Doorway, Edge, EdgeFault
from deploy.console.feed import Feed
from deploy.console.session import Session
from deploy.console.sign_in import ATTEMPTS, SignIn
from deploy.console.signin import Sessions

COOKIE = "headrace_console_8480"


class Setup:
    def __init__(self, data: Path, secure: bool = False) -> None:
        self.data = data
        self.now = 0.0
        self.sessions = Sessions[Session](lambda: self.now, lambda ended: None)
        self.asked: list[str] = []
        feed, doorway = object.__new__(Feed), Doorway(self._nowhere)
        made = SignIn(data, self.sessions, doorway, feed, COOKIE, secure, lambda: self.now)
        self.app = Starlette(routes=made.routes())
        self.client = TestClient(self.app, follow_redirects=False)

    def enter(self, token: str) -> int:
        return self.client.get(links.path(token)).status_code

    async def _nowhere(self) -> str:
        self.asked.append("where")
        raise EdgeFault(AWAY, "no ingress is connected")


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    home.console_key(tmp_path)
    made = Setup(tmp_path)
    with made.client:
        yield made


def test_a_link_signs_in_as_the_operator_though_no_ingress_is_there(setup: Setup) -> None:
    assert setup.enter(links.make(setup.data)) == 200
    (session,) = setup.sessions
    assert (session.name, session.admin) == ("console", True)


def test_the_cookie_is_for_this_site_alone(setup: Setup, tmp_path: Path) -> None:
    found = setup.client.get(links.path(links.make(setup.data))).headers["set-cookie"]
    assert found.startswith(f"{COOKIE}=")
    assert "HttpOnly" in found
    assert "SameSite=strict" in found
    assert "Secure" not in found
    behind = Setup(tmp_path, secure=True)
    found = behind.client.get(links.path(links.make(setup.data))).headers["set-cookie"]
    assert "Secure" in found


def test_a_link_is_used_up(setup: Setup) -> None:
    token = links.make(setup.data)
    assert [setup.enter(token), setup.enter(token)] == [200, 403]
    assert len(setup.sessions) == 1


def test_who_only_looks_at_a_link_does_not_use_it_up(setup: Setup) -> None:
    token = links.make(setup.data)
    assert setup.client.head(links.path(token)).status_code == 405
    assert setup.enter(token) == 200


def test_an_old_link_is_refused(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signin, "LINK_AGE", -1.0)
    token = links.make(setup.data)
    monkeypatch.undo()
    assert setup.enter(token) == 403


def test_a_link_without_a_key_of_the_console_is_told(tmp_path: Path) -> None:
    bare = Setup(tmp_path)
    said = bare.client.get(links.path(links.make(tmp_path)))
    assert (said.status_code, "sign in with an API key" in said.text) == (403, True)


def test_guesses_are_limited_and_a_right_one_is_not_told_then(setup: Setup) -> None:
    token = links.make(setup.data)
    assert {setup.enter("x" * 22) for _ in range(ATTEMPTS)} == {403}
    assert setup.enter("x" * 22) == 429
    assert setup.enter(token) == 429
    setup.now = 60.0
    assert setup.enter(links.make(setup.data)) == 200


def test_whom_it_refuses_asks_no_ingress_and_uses_no_link_up(setup: Setup) -> None:
    """The ingress counts by addresses, too, and the console's is one: it would refuse others."""
    token = links.make(setup.data)
    for _ in range(ATTEMPTS):
        setup.enter("x" * 22)
    asked = len(setup.asked)
    said = setup.client.post("/sign-in", data={"key": "sk-another-guess"})
    assert (said.status_code, len(setup.asked)) == (429, asked)
    assert setup.enter(token) == 429
    setup.now = 60.0
    assert setup.enter(token) == 200


async def test_guesses_at_the_same_time_are_limited(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_wait, asked = asyncio.Event(), []

    async def holder(_: Edge) -> None:
        asked.append("key")
        await all_wait.wait()
        raise EdgeFault("invalid_api_key", "There is no such key.", 401)

    monkeypatch.setattr(sign_in, "holder", holder)
    here = httpx.ASGITransport(setup.app)
    async with httpx.AsyncClient(transport=here, base_url="http://console") as client:

        async def guess(key: str) -> int:
            return (await client.post("/sign-in", data={"key": key})).status_code

        guesses = [asyncio.create_task(guess(f"sk-{at}")) for at in range(ATTEMPTS + 3)]
        done, _ = await asyncio.wait(guesses, return_when=asyncio.FIRST_COMPLETED)
        assert {each.result() for each in done} == {429}
        all_wait.set()
        found = sorted(await asyncio.gather(*guesses))
    assert (found, len(asked)) == ([403] * ATTEMPTS + [429] * 3, ATTEMPTS)


def test_a_form_with_more_than_ours_has_no_key(setup: Setup) -> None:
    fields = {"key": "sk-a-key", **{f"more-{at}": "x" for at in range(9)}}
    assert setup.client.post("/sign-in", data=fields).status_code == 400


def test_a_key_cannot_be_checked_without_an_ingress_which_is_no_failed_attempt(
    setup: Setup,
) -> None:
    for _ in range(2 * ATTEMPTS):
        said = setup.client.post("/sign-in", data={"key": "sk-a-key-that-is-right"})
        assert (said.status_code, "no ingress is connected" in said.text) == (503, True)


@pytest.mark.parametrize("key", ["", " ", "a\nb", "ä", "x" * 2000, "x" * 10_000])
def test_what_can_be_no_key_is_not_sent_on(setup: Setup, key: str) -> None:
    assert setup.client.post("/sign-in", data={"key": key}).status_code == 400


def test_its_pages_run_no_script(setup: Setup) -> None:
    said = setup.client.get("/sign-in")
    assert "script" not in said.text
    assert "default-src 'none'" in said.headers["content-security-policy"]
    assert said.headers["cache-control"] == "no-store"
