from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from fallback.attempt import Payment, ProviderAttempt
from fallback.cost.spent import NOTHING, Spent
from fallback.credits.billing import Billing
from fallback.credits.entries import MICRO, Hold, Reservation
from fallback.credits.faults import Insufficient, Superseded
from fallback.policy import Choice
from schemas import metrics, subjects
from schemas.jobs import one_of
from tests.unit import fakes
from tests.unit.fakes import FakeBus
from tests.unit.fallback import paused_ledger
from tests.unit.fallback.paused_ledger import PausedLedger, chosen
from workers.cancellation import Reason, Withdrawn
from workers.engines.base import EngineFault

A = Choice("a", "m", 100)
SPENT = Spent(prompt=10, completion=5)


async def _billed(ledger: PausedLedger, attempt: ProviderAttempt) -> tuple[Billing, Payment]:
    billing = paused_ledger.billing(ledger)
    return billing, await billing.reserve(attempt, chosen(a=100))


async def test_the_dearest_is_reserved(bus: FakeBus) -> None:
    ledger = PausedLedger()
    payment = await paused_ledger.billing(ledger).reserve(
        paused_ledger.attempt(bus), chosen(a=3, b=8, c=5)
    )
    assert ledger.log == [("reserve", 8)]
    assert [each.provider for each in payment.chosen.choices] == ["a", "b", "c"]


async def test_what_can_be_paid_is_asked_for_when_the_dearest_cannot(bus: FakeBus) -> None:
    ledger = PausedLedger()
    ledger.money = 6
    payment = await paused_ledger.billing(ledger).reserve(
        paused_ledger.attempt(bus), chosen(a=3, b=8, c=5)
    )
    assert ledger.log == [("reserve", 5)]
    assert [each.provider for each in payment.chosen.choices] == ["a", "c"]


async def test_a_reservation_names_its_holder_and_its_turn(bus: FakeBus) -> None:
    ledger = PausedLedger()
    for delivered in (1, 3):
        attempt = paused_ledger.attempt(bus, fakes.ack(delivered, 9))
        await paused_ledger.billing(ledger).reserve(attempt, chosen(a=1))
    first, later = ledger.asked
    assert (first.turn, first.first, first.holder) == (9 << 16 | 1, True, "fb-1")
    assert (later.turn, later.first, later.account) == (9 << 16 | 3, False, "acme")
    assert later.turn > first.turn


async def test_one_that_was_published_again_is_not_the_first(bus: FakeBus) -> None:
    """Somebody may hold a reservation for it, which has to be looked for."""
    ledger = PausedLedger()
    await paused_ledger.billing(ledger).reserve(paused_ledger.attempt(bus, edition=1), chosen(a=1))
    assert not ledger.asked[0].first


@pytest.mark.parametrize(
    ("unpaid", "lane", "retryable"),
    [
        ("refuse", subjects.INTERACTIVE, False),
        ("wait", subjects.INTERACTIVE, True),
        ("wait", subjects.CLOUD, False),
    ],
)
async def test_who_cannot_pay_is_told_the_cheapest(
    bus: FakeBus, unpaid: str, lane: str, retryable: bool
) -> None:
    """Workers may still take a job that waits; nobody else takes one that is for providers."""
    ledger = PausedLedger()
    ledger.money = 2
    with pytest.raises(EngineFault) as caught:
        await paused_ledger.billing(ledger).reserve(
            paused_ledger.attempt(bus, unpaid=unpaid, lane=lane), chosen(a=30, b=7)
        )
    assert (caught.value.code, caught.value.retryable) == ("insufficient_credits", retryable)
    assert caught.value.message == (
        "This request may cost 0.000007 USD at a provider, and the account 'acme' has "
        "0.000002 USD. Add credits with 'headrace credits grant', or ask for less, as with "
        "max_tokens."
    )


async def test_several_jobs_of_one_request_are_paid_together(bus: FakeBus) -> None:
    """Who cannot pay them all is told what all may cost."""

    class Shared(PausedLedger):
        async def reserve(self, what: Reservation) -> Hold:
            needed = what.amount * len(what.together)
            if needed > self.money:
                raise Insufficient(needed, self.money)
            return await super().reserve(what)

    id = one_of("0" * 30, 1)
    attempt, ledger = paused_ledger.attempt(bus, id=id, together=3), Shared()
    ledger.money = 20
    payment = await paused_ledger.billing(ledger).reserve(attempt, chosen(a=6, b=7, c=20))
    assert [each.provider for each in payment.chosen.choices] == ["a"]
    ledger.money = 17
    with pytest.raises(EngineFault, match=r"may cost 0\.000018 USD at a provider"):
        await paused_ledger.billing(ledger).reserve(attempt, chosen(a=6, b=7, c=20))


async def test_books_that_are_away_leave_the_job_to_others(bus: FakeBus) -> None:
    with pytest.raises(EngineFault) as caught:
        await paused_ledger.billing(PausedLedger(refuses=("reserve",))).reserve(
            paused_ledger.attempt(bus), chosen(a=1)
        )
    assert (caught.value.code, caught.value.retryable) == ("provider_failed", True)


async def test_a_later_holder_is_told_nothing_of(bus: FakeBus) -> None:
    ledger = PausedLedger()
    ledger.fault = Superseded("later")
    with pytest.raises(Withdrawn, match="superseded") as caught:
        await paused_ledger.billing(ledger).reserve(paused_ledger.attempt(bus), chosen(a=1))
    assert caught.value.reason.verdict == b""


async def test_a_cost_is_never_more_than_was_reserved(bus: FakeBus) -> None:
    attempt = paused_ledger.attempt(bus)
    billing, payment = await _billed(PausedLedger(), attempt)
    assert billing.purchase(payment, A, SPENT).cost == 20
    found = billing.purchase(payment, A, Spent(prompt=1000))
    assert (found.cost, found.uncharged) == (100, 900)


async def test_what_is_not_charged_is_said(bus: FakeBus) -> None:
    ledger = PausedLedger()
    billing, payment = await _billed(ledger, paused_ledger.attempt(bus))
    spent, before = Spent(prompt=1000), metrics.UNCHARGED.labels("a")._value.get()
    with capture_logs() as lines:
        await billing.charge(payment, billing.purchase(payment, A, spent), spent)
    [line] = [each for each in lines if each["event"] == "billing.above_reservation"]
    assert (line["cost"], line["charged"]) == ("0.001000 USD", "0.000100 USD")
    assert (line["log_level"], line["account"], line["provider"]) == ("warning", "acme", "a")
    assert metrics.UNCHARGED.labels("a")._value.get() == pytest.approx(before + 900 / MICRO)


async def test_usage_says_what_was_used_by_whom(bus: FakeBus) -> None:
    attempt = paused_ledger.attempt(bus, stream=True)
    billing, payment = await _billed(PausedLedger(), attempt)
    spent = Spent(images=2, size="1024x1024", quality="high", cached=1, prompt=3)
    found = billing.purchase(payment, A, spent)
    assert (found.account, found.key, found.job) == ("acme", "k1", attempt.job.id)
    assert (found.model, found.provider, found.provider_model) == ("chat", "a", "m")
    assert (found.picture, found.images, found.cached) == ("high/1024x1024", 2, 1)
    assert (found.streamed, found.started_ms) == (True, 1_700_000_000_000)
    assert billing.purchase(payment, A, SPENT).picture == ""


async def test_a_call_that_used_nothing_costs_nothing(bus: FakeBus) -> None:
    attempt, ledger = paused_ledger.attempt(bus), PausedLedger()
    billing, payment = await _billed(ledger, attempt)
    assert await billing.charge(payment, billing.purchase(payment, A, NOTHING), NOTHING) == 0
    assert ledger.log[-1] == ("release: refused", 100)
    assert payment.closed


@pytest.mark.parametrize("spent", [SPENT, NOTHING])
async def test_a_broker_that_is_away_does_not_take_the_answer_away(
    bus: FakeBus, spent: Spent
) -> None:
    attempt, ledger = paused_ledger.attempt(bus), PausedLedger(refuses=("settle", "release"))
    billing, payment = await _billed(ledger, attempt)
    usage = billing.purchase(payment, A, spent)
    assert await billing.charge(payment, usage, spent) == usage.cost
    assert payment.closed
    assert len(ledger.owed) == 1, "the ledger goes on; billing does not try twice"


async def test_what_another_holder_charged_is_not_taken_again(bus: FakeBus) -> None:
    class Yields(PausedLedger):
        async def settle(self, *_: object) -> bool:
            return False

    attempt = paused_ledger.attempt(bus)
    billing, payment = await _billed(Yields(), attempt)
    assert await billing.charge(payment, billing.purchase(payment, A, SPENT), SPENT) == 0


@pytest.mark.parametrize("refuses", [(), ("settle", "release")])
@pytest.mark.parametrize("why", Reason)
async def test_closing_waits_for_the_books(
    bus: FakeBus, why: Reason, refuses: tuple[str, ...]
) -> None:
    attempt, ledger = paused_ledger.attempt(bus), PausedLedger(refuses=refuses)
    billing, payment = await _billed(ledger, attempt)
    task = paused_ledger.task(attempt)
    task.counter = paused_ledger.Used(SPENT)
    payment.running = A, task
    attempt.delivery.stopped = Withdrawn(why)
    billing.abandon(payment)
    assert payment.closed
    await billing.close()
    deserted = why in (Reason.CANCELLED, Reason.GONE, Reason.ORPHANED)
    assert ledger.owed == ["charge" if deserted else "release"]
    assert len(ledger.log) == (1 if refuses else 2)


async def test_a_client_that_left_before_the_request_was_out_pays_nothing(bus: FakeBus) -> None:
    attempt, ledger = paused_ledger.attempt(bus), PausedLedger()
    billing, payment = await _billed(ledger, attempt)
    payment.running = A, paused_ledger.task(attempt)
    attempt.delivery.stopped = Withdrawn(Reason.CANCELLED)
    billing.abandon(payment)
    await billing.close()
    assert ledger.log[1:] == [("release: cancelled", 100)]


async def test_with_nothing_to_close_closing_does_not_wait() -> None:
    await paused_ledger.billing(PausedLedger()).close()
