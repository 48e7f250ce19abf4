"""``/`` in a browser."""

from __future__ import annotations

import re

import pytest

from tests.unit import fakes
from tests.unit.ingress.asgi import FakeBusIngress

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


async def test_it_says_what_this_is_and_that_it_is_well(ingress: FakeBusIngress) -> None:
    call = await ingress.call("GET", "/", headers=BROWSER).whole()
    assert call.status == 200
    assert call.headers["content-type"] == "text/html; charset=utf-8"
    text = call.body.decode()
    assert "All is well." in text
    assert "<code>echo</code>" in text


async def test_it_says_what_is_wrong(ingress: FakeBusIngress) -> None:
    ingress.bus.up = False
    call = await ingress.call("GET", "/", headers=BROWSER).whole()
    assert call.status == 503
    assert b"Not well now: the broker is away." in call.body


async def test_it_has_nothing_of_another_place_and_may_run_nothing(ingress: FakeBusIngress) -> None:
    call = await ingress.call("GET", "/", headers=BROWSER).whole()
    assert not re.search(rb"<script|<link|<img|src=|href=|url[(]", call.body)
    assert call.headers["content-security-policy"].startswith("default-src 'none'")


async def test_names_of_models_are_text(ingress: FakeBusIngress) -> None:
    ingress.catalog.hear(fakes.card("w-2", "<b>&bold"))
    call = await ingress.call("GET", "/", headers=BROWSER).whole()
    assert b"<code>&lt;b&gt;&amp;bold</code>" in call.body


async def test_a_strangers_name_for_this_machine_gets_no_page(ingress: FakeBusIngress) -> None:
    call = await ingress.call("GET", "/", headers={**BROWSER, "host": "evil.example"}).whole()
    assert call.status == 421


@pytest.mark.parametrize("secret", ["", "sk-wrong-0123456789abcdef"])
async def test_where_others_reach_it_models_are_not_named(
    ingress: FakeBusIngress, secret: str
) -> None:
    sent = {**BROWSER, **({"authorization": f"Bearer {secret}"} if secret else {})}
    call = await FakeBusIngress(host="0.0.0.0").call("GET", "/", headers=sent).whole()
    assert call.status == 200
    assert b"echo" not in call.body
