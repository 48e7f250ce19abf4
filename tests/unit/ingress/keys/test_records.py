from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.keys.records import AccountRecord, KeyRecord, StoredSecret, checked, pack
from schemas.errors import InvalidRequest
from schemas.keys import SCOPES, KeyPolicy, Limits

TIMES = st.floats(1, 4e9)
TEXTS = st.text(min_size=1, max_size=20)
NUMBERS = st.none() | st.integers(1, 10**6)
LIMITS = st.builds(
    Limits,
    requests=NUMBERS,
    tokens=NUMBERS,
    concurrent=NUMBERS,
    queued=NUMBERS,
    max_tokens=NUMBERS,
    monthly_tokens=NUMBERS,
    monthly_credits=st.none() | st.floats(0.01, 1e6),
)
_LANES = st.sampled_from([("i", ("gpu-*",)), ("i", ()), ("b", ())])
"""With the nodes to which a key of that lane may be bound."""
POLICIES = _LANES.flatmap(
    lambda found: st.builds(
        KeyPolicy,
        account=TEXTS,
        note=st.text(max_size=50),
        scopes=st.lists(st.sampled_from(SCOPES), unique=True).map(tuple),
        models=st.lists(TEXTS).map(tuple),
        nodes=st.just(found[1]),
        expires=st.none() | TIMES,
        local=st.booleans(),
        weight=st.floats(0.01, 100),
        lane=st.just(found[0]),
        lenient=st.booleans(),
        limits=LIMITS,
    )
)
SECRETS = st.builds(
    StoredSecret,
    digest=st.binary(min_size=32, max_size=32).map(bytes.hex),
    until=st.none() | TIMES,
)
NAMES = st.text("abcÄ .:@", min_size=1, max_size=64).filter(lambda name: name == name.strip())
RECORDS = st.builds(
    KeyRecord,
    name=NAMES,
    policy=POLICIES,
    secrets=st.lists(SECRETS, max_size=3).map(tuple),
    created=TIMES,
    changed=TIMES,
    revoked=st.none() | TIMES,
)


@given(RECORDS)
def test_a_key_comes_back_as_it_was(record: KeyRecord) -> None:
    assert KeyRecord.model_validate_json(pack(record)) == record


@given(st.builds(AccountRecord, account=TEXTS, limits=LIMITS, weight=st.none() | st.just(2.0)))
def test_so_does_an_account(record: AccountRecord) -> None:
    assert AccountRecord.model_validate_json(pack(record)) == record


@pytest.mark.parametrize("name", ["", " a", "a ", "a/b", "a\n", "a\u202eb", "x" * 65])
def test_a_name_that_could_not_be_shown_or_asked_for_is_refused(name: str) -> None:
    said = {"name": name, "policy": {}, "secrets": [], "created": 1, "changed": 1}
    with pytest.raises(InvalidRequest, match="name"):
        checked(KeyRecord, said)
