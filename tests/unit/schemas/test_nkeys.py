"""Seeds and public keys as other tools of NATS write them."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from schemas import nkeys
from tests.doubles.nsc.claims import creds

SECRETS = st.binary(min_size=32, max_size=32)


@given(SECRETS)
def test_a_seed_comes_back(secret: bytes) -> None:
    pair = nkeys.of(secret)
    assert pair.seed.startswith("SU")
    assert len(pair.seed) == 58
    assert pair.public.startswith("U")
    assert len(pair.public) == 56
    again = nkeys.read(f"{pair.seed}\n")
    assert (again.public, again.secret) == (pair.public, secret)


@given(SECRETS, st.data())
def test_a_wrong_letter_is_told(secret: bytes, data: st.DataObject) -> None:
    seed = nkeys.of(secret).seed
    place = data.draw(st.integers(0, len(seed) - 1))
    letters = [each for each in "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" if each != seed[place]]
    wrong = seed[:place] + data.draw(st.sampled_from(letters)) + seed[place + 1 :]
    with pytest.raises(nkeys.NoSeed):
        nkeys.read(wrong)
    with pytest.raises(nkeys.NoSeed):
        nkeys.read(seed[:place])


@pytest.mark.parametrize("text", ["", "SU", "hello", "s" * 58, "é", "UAAA", "SUAAAA=="])
def test_no_seed(text: str) -> None:
    with pytest.raises(nkeys.NoSeed) as fault:
        nkeys.read(text)
    assert not text or text not in str(fault.value) or len(text) < 3


def test_as_nats_own_tools_write_it() -> None:
    # From the package nkeys' README.
    pair = nkeys.read("SUAMLK2ZNL35WSMW37E7UD4VZ7ELPKW7DHC3BWBSD2GCZ7IUQQXZIORRBU")
    assert pair.public[0] == "U"
    raw = base64.b32decode(pair.public)
    Ed25519PublicKey.from_public_bytes(raw[1:-2]).verify(
        base64.b64decode(pair.sign("nonce")), b"nonce"
    )


@given(SECRETS, st.data())
def test_a_wrong_letter_of_a_public_key_is_told(secret: bytes, data: st.DataObject) -> None:
    public = nkeys.of(secret).public
    assert nkeys.is_public(public)
    place = data.draw(st.integers(0, len(public) - 1))
    letters = [each for each in "AQZ27a=é" if each != public[place]]
    wrong = public[:place] + data.draw(st.sampled_from(letters)) + public[place + 1 :]
    assert not nkeys.is_public(wrong)


@pytest.mark.parametrize("text", ["", "U" * 56, "U" + "A" * 55, "é" * 56, None, 1, b"U" * 56])
def test_no_public_key(text: object) -> None:
    assert not nkeys.is_public(text)


@given(SECRETS)
def test_credentials_have_claims_and_a_seed(secret: bytes) -> None:
    seed = nkeys.of(secret).seed
    found = nkeys.credentials(creds("head.claims.signature", seed))
    assert (found.seed, found.claims) == (seed, "head.claims.signature")
    assert "claims" not in repr(found)


@pytest.mark.parametrize(
    "left_out", ["BEGIN NATS USER JWT", "BEGIN USER NKEY SEED", "claims", "SU"]
)
def test_no_credentials(left_out: str) -> None:
    text = creds("claims", nkeys.make().seed).replace(left_out, "")
    with pytest.raises(nkeys.NoSeed):
        nkeys.credentials(text)


def test_it_does_not_show_its_secret() -> None:
    pair = nkeys.make()
    assert pair.seed not in repr(pair)
    assert nkeys.make().public != pair.public
