from __future__ import annotations

import re

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import errors
from schemas.errors import CODES, HeadraceError

OPENAI_TYPES = {
    "insufficient_quota",
    "invalid_request_error",
    "rate_limit_error",
    "server_error",
    "service_unavailable_error",
    "timeout_error",
}


def tree(root: type[HeadraceError] = HeadraceError) -> list[type[HeadraceError]]:
    return [leaf for child in root.__subclasses__() for leaf in (child, *tree(child))]


CLASSES = tree()
DRAWN = dict(re.findall(r"[├└]── (\w+) +(\d{3})", errors.__doc__ or ""))


def test_the_drawn_tree_is_the_real_one() -> None:
    assert {kind.__name__: str(kind.status) for kind in CLASSES} == DRAWN


def test_the_drawing_nests_as_the_classes_do(subtests: pytest.Subtests) -> None:
    for kind in CLASSES:
        with subtests.test(kind.__name__):
            drawn = errors.__doc__ or ""
            place = drawn.index(f"── {kind.__name__} ")
            depth = place - drawn.rindex("\n", 0, place)
            parents = [
                line
                for line in drawn[:place].splitlines()
                if "── " in line and line.index("── ") + 1 < depth
            ]
            above = re.search(r"── (\w+)", parents[-1]) if parents else None
            assert (above.group(1) if above else "HeadraceError") == kind.__mro__[1].__name__


def test_each_class_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in CLASSES]
    assert len(set(codes)) == len(codes)
    assert set(CODES) == set(codes)
    assert all(CODES[kind.code] is kind for kind in CLASSES)


def test_each_class_maps_to_http_and_openai(subtests: pytest.Subtests) -> None:
    for kind in CLASSES:
        with subtests.test(kind.__name__):
            assert 400 <= kind.status <= 599
            assert kind.type in OPENAI_TYPES
            assert re.fullmatch(r"[a-z_]+", kind.code)
            assert (kind.type == "invalid_request_error") <= (kind.status < 500)


@given(st.sampled_from(CLASSES), st.text(), st.none() | st.text(), st.none() | st.floats(0, 9999))
def test_the_envelope_is_openais(
    kind: type[HeadraceError], message: str, param: str | None, retry_after: float | None
) -> None:
    error = kind(message, param=param, retry_after=retry_after, source="worker")
    assert orjson.loads(error.json()) == {
        "error": {
            "message": message,
            "type": kind.type,
            "param": param,
            "code": kind.code,
            "source": "worker",
        }
    }
    headers = error.headers()
    assert headers.pop("x-headrace-error-source") == "worker"
    assert set(headers) == (set() if retry_after is None else {"retry-after"})
    assert all(int(value) >= 1 for value in headers.values())


def test_a_time_to_come_again_is_in_whole_seconds() -> None:
    said = {0.2: 1, 1.0: 1, 1.2: 2, 60.0000001: 60, 60.2: 61}
    assert said == {
        after: int(errors.QueueFull("", retry_after=after).headers()["retry-after"])
        for after in said
    }


@given(st.sampled_from(CLASSES))
def test_a_code_leads_back_to_its_class(kind: type[HeadraceError]) -> None:
    found = errors.from_code(kind.code, "why", source="worker")
    assert type(found) is kind
    assert (found.message, found.source) == ("why", "worker")


@given(st.text())
def test_an_unknown_code_is_an_engine_that_failed(code: str) -> None:
    found = errors.from_code(code, "why", source="worker")
    assert type(found) is CODES.get(code, errors.EngineFailed)
