from __future__ import annotations

import pytest

from deploy.console import signin
from deploy.console.signin import (
    IDLE,
    LINK_AGE,
    LONGEST,
    MOST_LINKS,
    MOST_OF_ONE,
    MOST_SESSIONS,
    Sessions,
)

NOW = 1_000_000.0


class Here:
    """A session's value, told apart by what it is alone."""


class Kept:
    def __init__(self) -> None:
        self.now = 0.0
        self.ended: list[Here] = []
        self.sessions = Sessions[Here](lambda: self.now, self.ended.append)


@pytest.fixture
def kept() -> Kept:
    return Kept()


def test_a_link_is_good_once() -> None:
    token, links = signin.make_link({}, NOW)
    good, links = signin.use_link(links, token, NOW + 1)
    assert good
    assert signin.use_link(links, token, NOW + 1) == (False, {})


def test_a_link_is_good_for_ten_minutes() -> None:
    token, links = signin.make_link({}, NOW)
    assert signin.use_link(links, token, NOW + LINK_AGE - 1)[0]
    assert not signin.use_link(links, token, NOW + LINK_AGE)[0]


def test_a_clock_that_was_wrong_makes_no_link_that_lasts() -> None:
    token, links = signin.make_link({}, NOW + 10 * LINK_AGE)
    assert not signin.use_link(links, token, NOW)[0]


def test_a_wrong_token_uses_no_link_up() -> None:
    token, links = signin.make_link({}, NOW)
    good, links = signin.use_link(links, "x" * 22, NOW)
    assert not good
    assert signin.use_link(links, token, NOW)[0]


def test_tokens_have_128_bits_and_are_not_in_what_is_kept() -> None:
    token, links = signin.make_link({}, NOW)
    assert len(token) == 22  # base64 of 16 bytes
    assert token not in str(links)


def test_links_are_bounded_and_the_newest_stay() -> None:
    links: signin.Links = {}
    for number in range(MOST_LINKS + 5):
        token, links = signin.make_link(links, NOW + number / 100)
    assert len(links) == MOST_LINKS
    assert signin.use_link(links, token, NOW + 1)[0]


def test_a_session_is_found_by_its_id_alone(kept: Kept) -> None:
    here = Here()
    id = kept.sessions.open(here, "key")
    assert kept.sessions.find(id) is here
    assert kept.sessions.find(id[:-1]) is None
    assert kept.sessions.find("") is None


def test_a_session_that_nobody_uses_ends(kept: Kept) -> None:
    here = Here()
    id = kept.sessions.open(here, "key")
    kept.now = IDLE - 1
    assert kept.sessions.find(id) is here
    kept.now += IDLE + 1
    assert kept.sessions.find(id) is None
    assert kept.ended == [here]


def test_an_open_page_keeps_its_session_but_not_for_ever(kept: Kept) -> None:
    here = Here()
    kept.sessions.open(here, "key")
    while kept.now < LONGEST:
        kept.now += IDLE / 2
        kept.sessions.touch(here)
        kept.sessions.sweep()
    kept.now += IDLE / 2
    kept.sessions.sweep()
    assert kept.ended == [here]


def test_who_signs_out_ends_that_session_alone(kept: Kept) -> None:
    here, other = Here(), Here()
    id, stays = kept.sessions.open(here, "key"), kept.sessions.open(other, "key")
    kept.sessions.close(here)
    assert kept.sessions.find(id) is None
    assert kept.sessions.find(stays) is other
    assert kept.ended == [here]


def test_sessions_are_bounded_and_the_unused_one_goes_first(kept: Kept) -> None:
    first, used = Here(), Here()
    kept.sessions.open(used, "key")
    kept.sessions.open(first, "key")
    kept.now = 1.0
    kept.sessions.touch(used)
    for number in range(MOST_SESSIONS - 1):
        kept.sessions.open(Here(), f"{number}")
    assert len(kept.sessions) == MOST_SESSIONS
    assert kept.ended == [first]


def test_who_signs_in_without_end_ends_sessions_of_his_own_key_alone(kept: Kept) -> None:
    other, mine = Here(), [Here() for _ in range(MOST_SESSIONS + 1)]
    stays = kept.sessions.open(other, "another key")
    for each in mine:
        kept.now += 1.0
        last = kept.sessions.open(each, "key")
    assert kept.sessions.find(stays) is other
    assert kept.sessions.find(last) is mine[-1]
    assert kept.ended == mine[:-MOST_OF_ONE]
