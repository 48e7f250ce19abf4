"""What a request may cost at most."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallback.cost import media, pricing
from fallback.cost.price_list import Prices
from schemas.settings import Price
from tests.unit.fallback.cost.test_media import recording

PICTURE = 1000


def tokens(content: Any) -> int:
    asked = {"messages": [{"role": "user", "content": content}]}
    return pricing.prompt_tokens(asked, PICTURE)


@given(st.text(max_size=200), st.text(max_size=50))
def test_more_text_is_never_less(text: str, more: str) -> None:
    assert tokens(text + more) >= tokens(text)
    assert tokens(text) >= len(text.encode("utf-8", "surrogatepass"))


def test_a_byte_is_a_token() -> None:
    assert tokens("水" * 100) - tokens("") == 300
    assert tokens("aa" * 100) - tokens("") == 200


def test_what_stands_for_several_letters_counts_as_those() -> None:
    """A tokenizer may take the form NFKC of a text first, in which one letter can become 18."""
    one = "\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}"
    assert tokens(one * 100) - tokens("") == 3300


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("1234567890" * 100, 1001),
        ("\n \n\t" * 250, 1001),
        (hashlib.sha256(b"x").hexdigest() * 10, 581),
        ("qzxjqkvzjx" * 100, 900),
        (json.dumps({f"k{n}": n * 3.7 for n in range(50)}, separators=(",", ":")), 698),
    ],
    ids=["digits", "blanks", "hex", "no language", "JSON"],
)
def test_no_tokenizer_makes_more_of_it(text: str, most: int) -> None:
    """`most`: of the tokenizers of GPT-4, GPT-4o, Claude 2, Llama 2 and 3, Mistral and SmolLM2."""
    assert most <= tokens(text) - tokens("") + 1 <= 2 * most


@given(st.integers() | st.floats(allow_nan=False) | st.booleans() | st.none())
def test_numbers_are_as_long_as_they_are_written(value: Any) -> None:
    asked = {"tools": [{"enum": [value]}]}
    assert pricing.prompt_tokens(asked, 0) >= len(json.dumps(value))


def test_tools_come_with_words_of_the_providers_own() -> None:
    least = pricing.template_tokens({})
    function = {"type": "function", "function": {"name": "f"}}
    assert pricing.template_tokens({"tools": []}) == least
    assert pricing.template_tokens({"tools": [function] * 9}) == least + pricing.TOOL_TOKENS
    known = {"type": "bash_20250124", "name": "bash"}
    asked = {"tools": [known, known, {"name": "own"}]}
    assert pricing.template_tokens(asked) == least + 3 * pricing.TOOL_TOKENS


def test_what_was_predicted_wrongly_is_paid_as_written() -> None:
    price = Price(provider="p", model="m", input=0, output=1)
    asked = {
        "messages": [],
        "max_tokens": 10,
        "prediction": {"type": "content", "content": "x" * 99},
    }
    assert pricing.worst_case("/v1/chat/completions", asked, 0, price) >= 109


def test_pictures_and_sound_are_not_text() -> None:
    data = "A" * 400_000
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    assert PICTURE <= tokens([picture]) < PICTURE + 200
    sound = {"type": "input_audio", "input_audio": {"data": data, "format": "mp3"}}
    assert 300 * media.AUDIO_TOKENS <= tokens([sound]) < 300 * media.AUDIO_TOKENS + 200
    said = base64.b64encode(recording(10)).decode()
    sound = {"type": "input_audio", "input_audio": {"data": said, "format": "wav"}}
    assert 10 * media.AUDIO_TOKENS <= tokens([sound]) < 10 * media.AUDIO_TOKENS + 200


@pytest.mark.parametrize("kind", ["image", "image_url", "input_image", "input_audio"])
def test_a_type_hides_nothing_but_the_picture_or_the_sound(kind: str) -> None:
    """Anything may call itself a picture: the request, a message, a text."""
    big = "word " * 1000
    message = {"role": "user", "content": big}
    asked: list[dict[str, Any]] = [
        {"type": kind, "messages": [message]},
        {"messages": [{**message, "type": kind}]},
        {"messages": [{**message, "content": [{"type": kind, "text": big}]}]},
        {"messages": [message], "metadata": {"type": kind, kind: "x", "more": big}},
    ]
    for each in asked:
        assert pricing.prompt_tokens(each, PICTURE) >= len(big) / 2


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "source": {"type": "base64", "media_type": "x", "data": "A" * 99_999}},
        {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 99_999},
        {"type": "image_url", "image_url": {"url": "A" * 99_999, "detail": "high"}},
    ],
)
def test_a_picture_counts_as_one_in_every_api(part: dict[str, Any]) -> None:
    assert PICTURE <= tokens([part]) < PICTURE + 200


def test_tools_and_schemas_are_read_too() -> None:
    tool = {"type": "function", "function": {"name": "f", "description": "x" * 1000}}
    assert pricing.prompt_tokens({"tools": [tool]}, PICTURE) > 500


def test_what_is_written_into_a_cache_may_cost_twice() -> None:
    part = {"type": "text", "text": "x" * 1000}
    assert tokens([{**part, "cache_control": {"type": "ephemeral"}}]) > 2 * tokens([part])


@pytest.mark.parametrize(
    ("asked", "limit"),
    [
        ({}, pricing.OUTPUT_TOKENS),
        ({"max_tokens": None}, pricing.OUTPUT_TOKENS),
        ({"max_tokens": -1}, pricing.OUTPUT_TOKENS),
        ({"max_tokens": 7}, 7),
        ({"max_output_tokens": 8}, 8),
        ({"max_tokens": 7, "max_completion_tokens": 9}, 9),
    ],
)
def test_the_limit_of_an_answer(asked: dict[str, Any], limit: int) -> None:
    assert pricing.output_limit(asked) == limit


@pytest.mark.parametrize(
    ("asked", "count"),
    [({}, 1), ({"n": 3}, 3), ({"n": "3"}, 3), ({"n": 2, "best_of": 5}, 5), ({"n": "x"}, 1)],
)
def test_how_many_are_asked_for(asked: dict[str, Any], count: int) -> None:
    assert pricing.copies(asked) == count


@pytest.mark.parametrize(
    ("prompt", "count"),
    [(None, 1), ("x", 1), ([1, 2], 1), ([], 1), (["x", "y"], 2), ([[1], [2], [3]], 3), (["x"], 1)],
)
def test_how_many_prompts_there_are(prompt: Any, count: int) -> None:
    assert pricing.prompts({"prompt": prompt}) == count


def test_sound_is_reserved_by_the_minute() -> None:
    price = Price(provider="p", model="m", minute="0.06")
    asked = {"file": [recording(60)]}
    at = "/v1/audio/transcriptions"
    assert 60_000 <= pricing.worst_case(at, asked, 10**9, price) < 60_100
    assert pricing.worst_case(at, {}, 60_000, price) == 60_000


@pytest.mark.parametrize("length", [1, 60, 1400])
def test_a_recording_is_reserved_by_the_token_and_by_the_minute(length: int) -> None:
    """Ten tokens a second are heard; up to 2,000 or ten a second are written."""
    price = Price(provider="p", model="m", input=1, output=2, minute=0)
    asked = {"file": [recording(length, rate=8000)], "prompt": "x" * 50}
    worst = pricing.worst_case("/v1/audio/transcriptions", asked, 0, price)
    assert worst >= 10 * length + 50 + 2 * max(2000, 10 * length)
    dear = price.model_copy(update={"minute": 600})
    assert pricing.worst_case("/v1/audio/transcriptions", asked, 0, dear) >= length * 10_000_000


def test_speech_is_reserved_by_the_character() -> None:
    price = Price(provider="p", model="m", characters="15")
    assert pricing.worst_case("/v1/audio/speech", {"input": "four"}, 0, price) == 60


@pytest.mark.parametrize(
    ("asked", "cost"),
    [
        ({"size": "1x1", "quality": "low"}, 10_000),
        ({"size": "1x1", "quality": "high"}, 30_000),
        ({"size": "1x1"}, 30_000),
        ({"size": "auto", "quality": "low"}, 20_000),
        ({"n": 2}, 80_000),
        ({"size": "9x9", "quality": "odd"}, 40_000),
    ],
)
def test_a_picture_is_reserved_by_what_is_asked_or_the_dearest(
    asked: dict[str, Any], cost: int
) -> None:
    images = {"low/1x1": "0.01", "low/2x2": "0.02", "high/1x1": "0.03", "high/2x2": "0.04"}
    price = Price(provider="p", model="m", images=images)
    assert pricing.worst_case("/v1/images/generations", asked, 0, price) == cost


def test_pictures_given_to_edit_are_paid_as_prompt() -> None:
    price = Price(provider="p", model="m", image="0.01", input="1")
    at = "/v1/images/edits"
    one = pricing.worst_case(at, {"prompt": "x", "image": [b"a"]}, 0, price)
    two = pricing.worst_case(at, {"prompt": "x", "image": [b"a", b"b"]}, 0, price)
    marked = pricing.worst_case(at, {"prompt": "x", "image": [b"a"], "markup": [b"b"]}, 0, price)
    assert two - one == marked - one == pricing.IMAGE_TOKENS


def test_what_cannot_be_billed_is_refused() -> None:
    price = Price(provider="p", model="m", input="1")
    with pytest.raises(ValueError, match="m has no price for output"):
        pricing.worst_case("/v1/chat/completions", {}, 0, price)
    assert pricing.worst_case("/v1/embeddings", {"input": "abcd"}, 0, price) > 0


def test_long_prompts_have_prices_of_their_own() -> None:
    price = Prices().of("google", "g", "gemini-2.5-pro")
    assert price is not None
    short = pricing.worst_case("/v1/chat/completions", {"m": "x" * 150_000}, 0, price)
    long = pricing.worst_case("/v1/chat/completions", {"m": "x" * 300_000}, 0, price)
    assert long > 3 * short
