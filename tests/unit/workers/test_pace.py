from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.frames import End
from schemas.nodes import UNRANKED, ServedModel
from workers.pace import KEPT, PATIENCE, PATIENCE_MOST, Answer, Pace, Paces

MODEL = ServedModel("m", "e", "echo", 4)


def answer(
    token_ms: float,
    *,
    tokens: int = 32,
    prompt: int = 10,
    cached: int = 0,
    read_ms: float = 50.0,
    streamed: bool = True,
    last: float = 0.0,
) -> Answer:
    """One whose prompt took `read_ms`, and each token behind the first one `token_ms`."""
    wrote = (tokens - 1) * token_ms if tokens > 0 else 0
    end = End(prompt, tokens, cached, round(read_ms + wrote))
    return Answer(end, last - wrote / 1000 if streamed else last, last, streamed)


def pace_of(*answers: Answer) -> Pace:
    pace = Pace()
    for each in answers:
        pace.add(each)
    pace.sum_up()
    return pace


def test_without_an_answer_nothing_is_known() -> None:
    pace = Pace()
    assert (pace.token_us, pace.prompt_us, pace.request_us) == (0, 0, 0)


def test_a_stream_shows_how_long_a_token_and_a_prompt_take() -> None:
    pace = pace_of(answer(10.0, prompt=1000, read_ms=500.0))
    assert (pace.token_us, pace.prompt_us, pace.request_us) == (10_000, 500, 0)


def test_of_a_prompt_only_what_was_read_anew_counts() -> None:
    assert pace_of(answer(10.0, prompt=1000, cached=800, read_ms=100.0)).prompt_us == 500
    assert pace_of(answer(10.0, prompt=1000, cached=990, read_ms=100.0)).prompt_us == 0
    assert pace_of(answer(10.0, prompt=1000, cached=-1, read_ms=500.0)).prompt_us == 500


def test_an_answer_in_one_piece_has_its_prompt_within() -> None:
    assert pace_of(answer(10.0, tokens=100, read_ms=10.0, streamed=False)).token_us == 10_000
    read = answer(10.0, tokens=100, prompt=2000, read_ms=1010.0, streamed=False)
    assert pace_of(read).token_us == 10_000


@pytest.mark.parametrize("tokens", [-1, 0, 7])
def test_an_answer_of_few_tokens_or_none_is_a_request(tokens: int) -> None:
    pace = pace_of(answer(0.0, tokens=tokens, read_ms=250.0, streamed=False))
    assert (pace.token_us, pace.request_us) == (0, 250_000)


def test_a_refusal_tells_nothing() -> None:
    pace = pace_of(Answer(End(0, 0, 0), 0.0, 0.0, streamed=False))
    assert pace.request_us == 0


def test_an_odd_answer_changes_nothing_and_three_do() -> None:
    pace = pace_of(*[answer(10.0)] * KEPT, answer(100.0), answer(100.0))
    assert pace.token_us == 10_000
    pace.add(answer(100.0))
    pace.sum_up()
    assert pace.token_us == 100_000


@given(st.lists(st.floats(0.5, 2000.0), min_size=1, max_size=20))
def test_it_is_within_what_the_last_answers_were(paces: list[float]) -> None:
    pace = pace_of(*map(answer, paces))
    last = paces[-KEPT:]
    assert min(last) * 940 <= pace.token_us <= max(last) * 1060  # two digits


class Engine:
    """One that is measured now and then; `rank`: that it was told."""

    def __init__(self, rank: int) -> None:
        self.paces = Paces(0)
        self.paces.set_rank("m", rank)
        self.now = 1000.0

    def serve(self, token_ms: float) -> None:
        self.paces.add("m", answer(token_ms, last=self.now))

    def after(self, seconds: float) -> int:
        self.now += seconds
        (model,) = self.paces.told([MODEL], self.now)
        return model.token_us


def test_the_pace_of_one_that_others_go_before_is_forgotten_and_tried_again() -> None:
    engine = Engine(rank=1)
    engine.serve(40.0)
    assert engine.after(PATIENCE - 1) == 40_000
    assert engine.after(2) == 0
    engine.serve(10.0)
    assert engine.after(1) == 10_000, "one answer tells that it is well again"
    assert engine.after(PATIENCE) == 0


def test_one_that_is_as_slow_as_before_is_tried_less_and_less() -> None:
    engine = Engine(rank=1)
    patience = PATIENCE
    for _ in range(10):
        engine.serve(40.0)
        assert engine.after(patience - 1) == 40_000
        assert engine.after(2) == 0
        patience = min(PATIENCE_MOST, 2 * patience)


def test_the_pace_of_the_first_is_kept_however_long_nobody_asks() -> None:
    engine = Engine(rank=0)
    engine.serve(10.0)
    assert engine.after(PATIENCE_MOST * 10) == 10_000


def test_cards_say_the_operators_priority_until_there_is_a_rank() -> None:
    paces = Paces(3)
    (model,) = paces.told([MODEL], 0.0)
    assert (model.priority, model.rank, paces.rank("m")) == (3, 3, 3)
    assert (MODEL.priority, MODEL.rank) == (0, UNRANKED)
    paces.set_rank("m", 1)
    (model,) = paces.told([model], 0.0)
    assert (model.priority, model.rank, paces.rank("m")) == (3, 1, 1)


def test_what_is_told_stays_the_same_object_while_nothing_changes() -> None:
    paces = Paces(0)
    (model,) = paces.told([MODEL], 0.0)
    assert paces.told([model], 1.0)[0] is model
