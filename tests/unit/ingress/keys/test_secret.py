from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.keys import secret

FORM = re.compile(r"hr_sk_[0-9A-Za-z]{36}")
LETTERS = string.digits + string.ascii_letters


def test_what_is_made_has_the_form_that_scanners_know() -> None:
    found = {secret.make() for _ in range(200)}
    assert len(found) == 200
    assert all(FORM.fullmatch(each) and not secret.is_mistyped(each) for each in found)


@given(st.integers(6, 41), st.sampled_from(LETTERS))
def test_one_wrong_character_is_seen(at: int, letter: str) -> None:
    made = secret.make()
    wrong = made[:at] + letter + made[at + 1 :]
    assert secret.is_mistyped(wrong) == (wrong != made)


@given(st.integers(6, 40))
def test_two_that_changed_places_are_seen(at: int) -> None:
    made = secret.make()
    wrong = made[:at] + made[at + 1] + made[at] + made[at + 2 :]
    assert secret.is_mistyped(wrong) == (wrong != made)


@given(st.integers(6, 41))
def test_a_cut_one_is_seen(length: int) -> None:
    assert secret.is_mistyped(secret.make()[:length])


@given(st.text())
def test_whatever_follows_the_prefix_breaks_nothing(text: str) -> None:
    assert secret.is_mistyped(secret.PREFIX + text) or FORM.fullmatch(secret.PREFIX + text)


@given(st.text())
def test_keys_of_others_are_not_judged(text: str) -> None:
    assert text.startswith(secret.PREFIX) or not secret.is_mistyped(text)


def test_the_checksum_is_that_of_a_known_value() -> None:
    assert not secret.is_mistyped("hr_sk_" + "0" * 30 + base62(_crc(b"0" * 30)))


def _crc(data: bytes) -> int:
    """CRC-32 as IEEE 802.3 has it, bit by bit."""
    found = 0xFFFFFFFF
    for byte in data:
        found ^= byte
        for _ in range(8):
            found = found >> 1 ^ (0xEDB88320 if found & 1 else 0)
    return found ^ 0xFFFFFFFF


def base62(number: int) -> str:
    alphabet = string.digits + string.ascii_uppercase + string.ascii_lowercase
    return "".join(alphabet[number // 62**place % 62] for place in range(5, -1, -1))


@pytest.mark.parametrize("other", [b"another pepper", b""])
def test_a_digest_needs_the_pepper(other: bytes) -> None:
    made = secret.make()
    assert secret.digest(b"pepper", made) == secret.digest(b"pepper", made)
    assert secret.digest(b"pepper", made) != secret.digest(other, made)
