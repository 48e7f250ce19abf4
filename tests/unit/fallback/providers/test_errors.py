"""Whose fault an answer is."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallback.providers.base import ProviderFault
from fallback.providers.errors import LONGEST, judge, reason_of, retry_after
from fallback.providers.secret import Secret
from workers.engines.openai.refusal import Refusal

KEY = Secret("sk-test-0123456789")


REASONS: list[tuple[int, dict[str, Any], str | None]] = [
    (400, {"message": "no"}, None),
    (404, {"message": "No such file", "param": "file_id"}, None),
    (404, {"message": "no page"}, "absent"),
    (404, {"message": "x", "code": "model_not_found", "param": "model"}, "absent"),
    (400, {"message": "API key not valid. Please pass another."}, "key"),
    (400, {"message": "x", "code": "billing_hard_limit_reached"}, "key"),
    (400, {"message": "x", "code": 5007}, "absent"),
    (400, {"message": "x", "code": 5006}, None),
    (429, {"message": "x", "code": "insufficient_quota"}, "key"),
    (429, {"message": "x"}, "busy"),
    (500, {"message": "x", "type": "overloaded_error"}, "busy"),
    (500, {"message": "x"}, "failed"),
    (301, {"message": "x"}, "failed"),
    (204, {"message": "x"}, "failed"),
]


def test_reasons(subtests: pytest.Subtests) -> None:
    for status, error, reason in REASONS:
        with subtests.test(f"{status!r:.60} {error!r:.60}"):
            assert reason_of(status, error) == reason


@pytest.mark.parametrize("status", [429, 500, 404])
def test_what_a_provider_says_of_itself_is_for_the_log(status: int) -> None:
    """It names the account, its limits and their use."""
    said = "Limit 30000, Used 29999"
    found = judge("cloud", status, {}, orjson.dumps({"error": {"message": said}}), KEY)
    assert isinstance(found, ProviderFault)
    assert found.message.startswith(f"cloud answered {status}")
    assert ("model" in found.message) == (status == 404)
    assert found.detail == said


def test_when_to_come_again() -> None:
    assert retry_after({"retry-after": "7"}, {}) == 7
    assert retry_after({"retry-after": "7", "retry-after-ms": "250"}, {}) == 0.25
    later = retry_after({"retry-after": formatdate(time.time() + 60, usegmt=True)}, {})
    assert later is not None
    assert 55 < later <= 60
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17.5s"}]
    assert retry_after({}, {"details": details}) == 17.5
    assert retry_after({"retry-after": "99999"}, {}) == LONGEST
    assert retry_after({"retry-after": "-3"}, {}) == 0
    assert retry_after({"retry-after": "0"}, {}) == 0
    assert retry_after({"retry-after": "0", "retry-after-ms": "0"}, {"details": details}) == 0
    assert retry_after({"retry-after": "soon"}, {}) is None
    assert retry_after({}, {}) is None


@given(st.integers(100, 599), st.binary() | st.from_type(type(None)).map(orjson.dumps))
def test_whatever_it_says_somebody_is_at_fault(status: int, body: bytes) -> None:
    found = judge("cloud", status, {}, body, KEY)
    assert isinstance(found, ProviderFault | Refusal)
    if isinstance(found, Refusal):
        assert 400 <= status < 500
        assert orjson.loads(found.json())["error"]["source"] == "provider:cloud"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 600) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "errors", "message", "code", "type", "details", "detail"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.sampled_from([400, 404, 429, 500]), _JSON)
def test_whatever_shape_its_error_has(status: int, found: Any) -> None:
    assert isinstance(judge("cloud", status, {}, orjson.dumps(found), KEY), ProviderFault | Refusal)
