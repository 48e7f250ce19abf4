"""The clock that all ingresses go by, whatever is done to the broker's."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from ingress.limits.clock import DRIFT, FORGOTTEN, SharedClock
from ingress.limits.store import Alone, Overtaken

HOUR = 3_600_000


class Broker(Alone):
    """Its clock can be set. `answer`: milliseconds that each question takes, there and back."""

    def __init__(self) -> None:
        super().__init__()
        self.real = 1_790_000_000_000.0
        self.set = 0.0
        self.answer = 2.0
        self.overtaken = 0

    async def time(self) -> int:
        self.real += self.answer / 2
        told = round(self.real + self.set)
        self.real += self.answer / 2
        return told

    async def write(self, subject: str, after: int, data: bytes) -> int:
        if self.overtaken:
            self.overtaken -= 1
            raise Overtaken(subject)
        return await super().write(subject, after, data)


def clock(broker: Broker, wrong: float = 0.0, off: float = 0.0) -> SharedClock:
    """By a clock that is `off` by so many milliseconds, and goes wrong by `wrong`."""
    return SharedClock(broker, lambda: (broker.real * (1 + wrong) + off) / 1000)


@given(
    st.floats(0.1, 500),
    st.floats(-DRIFT / 2, DRIFT / 2),
    st.floats(-1e9, 1e9),
    st.lists(st.floats(1, 60_000), max_size=8),
)
async def test_the_time_is_between_the_earliest_and_the_latest(
    answer: float, wrong: float, off: float, pauses: list[float]
) -> None:
    broker = Broker()
    broker.answer = answer
    found = clock(broker, wrong, off)
    await found.read()
    for pause in pauses:
        broker.real += pause
        now = found.now()
        assert now.earliest <= broker.real <= now.latest
        await found.read()
    assert found.now().latest - found.now().earliest <= answer + 2 * DRIFT * 60_000 + 5


async def test_a_step_of_the_brokers_clock_changes_nothing() -> None:
    broker = Broker()
    one, other = clock(broker), clock(broker, off=5e6)
    for each in (one, other):
        await each.read()
    for step in (HOUR, -3 * HOUR, 50.0):
        broker.set += step
        broker.real += 1000
        await one.read()
        broker.real += 1000
        await other.read()
        for each in (one, other, fresh := clock(broker)):
            if each is fresh:
                await fresh.read()
            now = each.now()
            assert now.earliest <= broker.real <= now.latest
            calendar = each.calendar(now.latest) * 1000
            assert abs(calendar - (broker.real + broker.set)) < 20


async def test_two_that_notice_a_step_make_up_for_it_once() -> None:
    broker = Broker()
    one = clock(broker)
    await one.read()
    broker.set += HOUR
    broker.overtaken = 1
    await one.read()
    now = one.now()
    assert now.earliest <= broker.real <= now.latest


async def test_one_that_came_between_a_step_and_its_making_up_for_is_put_right() -> None:
    broker = Broker()
    one = clock(broker)
    await one.read()
    broker.set += HOUR
    await (late := clock(broker)).read()
    await one.read()
    await late.read()
    for each in (one, late):
        now = each.now()
        assert now.earliest <= broker.real <= now.latest


async def test_one_that_slept_long_takes_the_time_as_it_is() -> None:
    broker = Broker()
    one = clock(broker)
    await one.read()
    broker.real += FORGOTTEN + 1
    broker.set += HOUR
    await one.read()
    now = one.now()
    assert now.earliest <= broker.real + broker.set <= now.latest


async def test_months_are_those_of_the_brokers_calendar() -> None:
    broker = Broker()
    broker.real = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp() * 1000
    found = clock(broker)
    await found.read()
    assert found.now().month == 2026 * 12 + 11
    assert 900 < found.now().left <= 1000
    broker.real += 1000
    assert found.now().month == 2027 * 12
    assert found.now().left > 30 * 86_400_000


def test_it_is_not_known_before_it_was_read() -> None:
    found = clock(Broker())
    assert not found.is_known
    assert found.age > 1e9
