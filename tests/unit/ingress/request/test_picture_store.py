from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.request.picture_store import PATH, PictureStore
from schemas.errors import Forbidden
from tests.unit.fakes import Clock


class StoreSetup:
    """A store, and what its addresses say."""

    def __init__(self, limit: int = 1000, age: float = 60) -> None:
        self.clock = Clock(1_700_000_000.25)
        self.store = PictureStore(limit, age, self.clock)

    def put(self, content: bytes = b"picture", kind: str = "image/png") -> tuple[str, str, str]:
        url = urlsplit(self.store.put(content, kind))
        assert url.path.startswith(PATH + "/")
        query = parse_qs(url.query)
        return url.path.removeprefix(PATH + "/"), query["expires"][0], query["signature"][0]


def test_what_was_put_is_got() -> None:
    at = StoreSetup()
    place = at.put(b"abc", "image/webp")
    kept = at.store.get(*place)
    assert kept is not None
    assert (kept.content, kept.content_type) == (b"abc", "image/webp")
    assert place[0].endswith(".webp")
    assert int(place[1]) == 1_700_000_061


def test_it_expires() -> None:
    at = StoreSetup(age=60)
    place = at.put()
    at.clock.now += 60
    assert at.store.get(*place) is not None
    at.clock.now += 1
    with pytest.raises(Forbidden, match="expired"):
        at.store.get(*place)
    at.put(b"another")
    assert at.store.size == len(b"another")


def test_each_address_is_new() -> None:
    at = StoreSetup()
    assert len({at.put()[0] for _ in range(50)}) == 50


def test_the_oldest_make_room() -> None:
    at = StoreSetup(limit=10)
    first, second, third = at.put(b"1" * 4), at.put(b"2" * 4), at.put(b"3" * 4)
    kept = [at.store.get(*place) for place in (first, second, third)]
    assert [each and each.content for each in kept] == [None, b"2222", b"3333"]
    assert at.store.size == 8


def test_one_larger_than_all_is_kept_alone() -> None:
    at = StoreSetup(limit=10)
    at.put(b"1" * 4)
    place = at.put(b"2" * 40)
    assert at.store.get(*place) is not None
    assert at.store.size == 40
    at.put(b"3")
    assert at.store.size == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda n, e, s: (n + "x", e, s),
        lambda n, e, s: ("../" + n, e, s),
        lambda n, e, s: (n, str(int(e) + 1), s),
        lambda n, e, s: (n, "0" + e, s),
        lambda n, e, s: (n, "", s),
        lambda n, e, s: (n, e, ""),
        lambda n, e, s: (n, e, s[:-1]),
        lambda n, e, s: (n, e, s.upper() + "é"),
        lambda n, e, s: (f"{n}\n{e}", "", s),
    ],
)
def test_nothing_of_it_can_be_changed(change) -> None:  # type: ignore[no-untyped-def]
    at = StoreSetup()
    with pytest.raises(Forbidden):
        at.store.get(*change(*at.put()))


def test_another_process_has_another_secret() -> None:
    place = StoreSetup().put()
    with pytest.raises(Forbidden):
        StoreSetup().store.get(*place)


@given(st.text(), st.text(), st.text())
def test_no_made_up_address_is_taken(name: str, expires: str, signature: str) -> None:
    at = StoreSetup()
    at.put()
    with pytest.raises(Forbidden):
        at.store.get(name, expires, signature)


@given(st.lists(st.binary(max_size=30), max_size=30))
def test_it_never_holds_more_than_its_limit(pictures: list[bytes]) -> None:
    at = StoreSetup(limit=60)
    for picture in pictures:
        at.put(picture)
        assert at.store.size <= 60
