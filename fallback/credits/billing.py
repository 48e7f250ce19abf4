"""Takes the money for calls: reserves the worst case, charges what was used, returns the rest.
Keeps back the parts of an answer that must wait for the charge.

A streamed answer passes from its first token on. Events before the first token (a role, an empty
block) wait: a hedged worker must not lose to an announcement, and until then another provider can
still answer. The event that ends the stream waits until the call is settled, and follows a comment
with the cost. So a client that sees the end has been charged, and no error comes after the end.

An answer that is not streamed is kept until it is whole: its head carries the cost, and if it
breaks off in the middle, another provider can still answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from typing import Any, Protocol

import structlog

from fallback.attempt import Delivery, Payment, ProviderAttempt
from fallback.cost import pricing
from fallback.cost.pricing import PriceList
from fallback.cost.spent import NOTHING, Spent
from fallback.credits.entries import MICRO, Hold, Purchase, Reservation
from fallback.credits.faults import Insufficient, LedgerError, Superseded
from fallback.credits.ledger import Ledger
from fallback.policy import Choice, Chosen, money
from schemas import metrics, subjects
from schemas.api import sse
from schemas.api.base import PLAIN
from schemas.api.endpoints import APIS
from schemas.frames import COST, COST_LIMIT, SERVED_BY
from schemas.jobs import Job
from workers.cancellation import Reason, Withdrawn
from workers.engines.base import EngineFault

log = structlog.get_logger("billing")


class Spends(Protocol):
    def __call__(self, account: str, *, refused: bool = False) -> None: ...


class Billing:
    """`holder`: the process, as reservations name it. `spends` is called with an account that was
    refused, or charged when `lowest` percent of its credits may be used."""

    def __init__(
        self,
        ledger: Ledger,
        prices: PriceList,
        currency: str,
        holder: str,
        *,
        spends: Spends | None,
        lowest: int,
    ) -> None:
        self._ledger = ledger
        self._prices = prices
        self._currency = currency
        self._holder = holder
        self._spends = spends
        self._lowest = lowest
        self._closing: set[asyncio.Task[Any]] = set()
        for provider in {provider for provider, _ in prices}:
            # From nothing to the first amount is to be an increase.
            metrics.CHARGED.labels(provider)
            metrics.UNCHARGED.labels(provider)

    def money(self, amount: int) -> str:
        return money(amount, self._currency)

    async def close(self) -> None:
        """Wait until the holds of calls that ended early are charged or given back."""
        if self._closing:
            await asyncio.wait(self._closing, timeout=10)

    async def reserve(self, attempt: ProviderAttempt, chosen: Chosen) -> Payment:
        """Hold the worst case of the dearest provider that the account can pay; dearer ones are
        left out. Raises EngineFault, Withdrawn."""
        affordable = chosen
        while True:
            try:
                return Payment(attempt, await self._take(attempt, affordable.dearest), affordable)
            except Insufficient as fault:
                # `needed` may cover several jobs of one request: this job gets its share.
                each = fault.available * affordable.dearest // fault.needed
                affordable = affordable.within(each)
                if not affordable.choices:
                    if self._spends is not None:
                        self._spends(attempt.job.account, refused=True)
                    raise self._unpaid(attempt, chosen, fault) from None
            except Superseded:
                raise Withdrawn(Reason.SUPERSEDED) from None
            except LedgerError as fault:
                log.warning("billing.not_reserved", job=attempt.job.id, error=str(fault))
                why = f"credits cannot be reserved now: {fault}"
                raise EngineFault(why, code="provider_failed") from None

    async def _take(self, attempt: ProviderAttempt, amount: int) -> Hold:
        """Reserve. If this is cancelled, the reservation is completed and then given back; else it
        would bind credits until a sweep."""
        taking = asyncio.create_task(self._ledger.reserve(self._reservation(attempt, amount)))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            self._later(self._give_back(attempt, taking))
            raise

    async def _give_back(self, attempt: ProviderAttempt, taking: asyncio.Task[Hold]) -> None:
        with contextlib.suppress(LedgerError):  # if anything was written, the sweep releases it
            await self._ledger.release(await taking, str(attempt.delivery.stopped or "cancelled"))

    def _reservation(self, attempt: ProviderAttempt, amount: int) -> Reservation:
        job = attempt.job
        sequence, delivered = attempt.delivery.turn
        # One number that orders holders: a job queued again counts more than another delivery.
        turn = sequence << 16 | min(delivered, 0xFFFF)
        first, holder = delivered == 1 and not job.again, self._holder
        return Reservation(job.account, job.id, turn, holder, amount, first, job.arrived, job.ids)

    def _unpaid(self, attempt: ProviderAttempt, chosen: Chosen, fault: Insufficient) -> EngineFault:
        least = min(each.worst for each in chosen.choices) * attempt.job.together
        why = (
            f"This request may cost {self.money(least)} at a provider, and the account "
            f"{attempt.job.account!r} has {self.money(fault.available)}. Add credits with "
            "'headrace credits grant', or ask for less, as with max_tokens."
        )
        waits = attempt.route.unpaid == "wait" and attempt.job.lane != subjects.CLOUD
        return EngineFault(why, code="insufficient_credits", retryable=waits)

    def purchase(self, payment: Payment, choice: Choice, spent: Spent) -> Purchase:
        """What a call used, and its cost as far as the reservation covers it."""
        attempt, price = payment.attempt, self._prices[choice.provider, choice.model]
        job, took = attempt.job, time.monotonic() - attempt.since
        cost = 0 if payment.hold.paid else pricing.cost(spent, price)
        bought = Purchase(
            account=job.account,
            key=job.key,
            job=job.id,
            model=job.asked,
            provider=choice.provider,
            provider_model=choice.model,
            endpoint=job.endpoint,
            prompt=spent.prompt,
            completion=spent.completion,
            cached=spent.cached,
            stored=spent.stored,
            images=spent.images,
            picture=spent.picture if spent.images else "",
            seconds=spent.seconds,
            characters=spent.characters,
            cost=cost,
            started_ms=round(attempt.began * 1000),
            ended_ms=round((attempt.began + took) * 1000),
            streamed=job.stream,
            requests=int(job.leads),
        )
        most = payment.hold.what.amount
        return bought if 0 <= cost <= most else bought.within(most)

    def answer(self, payment: Payment, choice: Choice) -> PricedAnswer:
        """The sink that takes the provider's answer."""
        attempt, limit = payment.attempt, self.money(payment.hold.what.amount)
        return PricedAnswer(attempt.delivery, attempt.job, choice.provider, limit)

    async def sell(
        self, payment: Payment, choice: Choice, spent: Spent, answer: PricedAnswer
    ) -> None:
        """Hand over a whole answer without its end, charge for it, then hand over the end."""
        purchase = self.purchase(payment, choice, spent)
        answer.offer(self.money(purchase.cost))
        answer.seal(self.money(await self.charge(payment, purchase, spent)))

    async def charge(self, payment: Payment, purchase: Purchase, spent: Spent) -> int:
        """Settle a call; returns the micro-units that were charged."""
        # Before the first await: if this is cancelled there, `run` must not abandon it as well.
        payment.closed = True
        try:
            if spent == NOTHING:
                await self._ledger.release(payment.hold, "refused")
                return 0
            if not await self._ledger.settle(payment.hold, purchase):
                return 0
        except LedgerError as fault:  # the ledger goes on trying
            log.error("billing.not_settled", job=purchase.job, cost=purchase.cost, error=str(fault))
        self._count(purchase)
        return purchase.cost

    def _count(self, purchase: Purchase) -> None:
        metrics.CHARGED.labels(purchase.provider).inc(purchase.cost / MICRO)
        account = purchase.account
        if self._spends is not None and self._ledger.near(account, self._lowest):
            self._spends(account)
        if not purchase.uncharged:
            return
        metrics.UNCHARGED.labels(purchase.provider).inc(purchase.uncharged / MICRO)
        # A price or an estimate is wrong, and whoever runs this pays the difference.
        log.warning(
            "billing.above_reservation",
            job=purchase.job,
            account=account,
            provider=purchase.provider,
            model=purchase.provider_model,
            cost=self.money(purchase.cost + purchase.uncharged),
            charged=self.money(purchase.cost),
        )

    def abandon(self, payment: Payment) -> None:
        """The attempt ended early. If nobody goes on with the job (as when the client left), what
        its call used is charged; else all is given back."""
        payment.closed = True
        self._later(self._close_early(payment))

    async def _close_early(self, payment: Payment) -> None:
        stopped, running = payment.attempt.delivery.stopped, payment.running
        deserted = isinstance(stopped, Withdrawn) and stopped.reason.deserted
        if deserted and running is not None and (spent := running[1].spent) != NOTHING:
            await self.charge(payment, self.purchase(payment, running[0], spent), spent)
            return
        try:
            await self._ledger.release(payment.hold, str(stopped or "failed"))
        except LedgerError as fault:  # the ledger goes on trying
            log.error("billing.not_released", job=payment.attempt.job.id, error=str(fault))

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


class PricedAnswer:
    """The Sink of one call, between a provider and the client. `begun`: part of the answer was
    passed on, so no other provider can answer any more."""

    def __init__(self, delivery: Delivery, job: Job, provider: str, limit: str) -> None:
        self._delivery = delivery
        self._provider = provider
        self._limit = limit
        self._streamed = job.stream
        self._passes = False
        """Whether the answer is a stream, which passes as it comes."""
        self._api = APIS.get(job.endpoint, PLAIN)
        self._head = (0, "")
        self._pieces: list[bytes] = []
        self._cost = ""
        self._end = b""
        self.begun = False
        self.touch, self.settle = delivery.touch, delivery.settle

    def start(self, status: int, content_type: str) -> None:
        self._head = status, content_type
        events = content_type.startswith(sse.CONTENT_TYPE)
        self._passes = self._streamed and status == 200 and events

    def data(self, chunk: bytes) -> None:
        if self.begun:
            self._forward(chunk)
            return
        self._pieces.append(chunk)
        if self._passes and self._api.begun.search(chunk):
            self._begin()
        else:
            self.touch()

    def offer(self, cost: str) -> None:
        """The answer is whole and will cost `cost`: hand over all that waits, except the end of a
        stream. So the client reads while the call is settled."""
        if not self._passes:
            self._cost = cost
            self._delivery.note((SERVED_BY, f"provider:{self._provider}"), (COST, cost))
            self._delivery.start(*self._head)
            self._delivery.data(b"".join(self._pieces))
        elif not self.begun:
            self._begin()

    def seal(self, cost: str) -> None:
        """The call is settled and `cost` was charged: say so, and end a stream."""
        if self._passes:
            self._delivery.note((COST, cost))
            self._delivery.data(sse.comment(f"{COST} {cost}") + self._end)
        elif cost != self._cost:  # the head said more: another holder was charged meanwhile
            self._delivery.note((COST, cost))

    def _begin(self) -> None:
        self.begun = True
        self._delivery.note((SERVED_BY, f"provider:{self._provider}"), (COST_LIMIT, self._limit))
        self._delivery.start(*self._head)
        self._forward(b"".join(self._pieces))
        self._pieces.clear()

    def _forward(self, chunk: bytes) -> None:
        """Pass on all but the end, which waits until the call is settled."""
        # What comes behind the end waits with it.
        at = 0 if self._end else sse.end_of(chunk)
        if at < 0:
            self._delivery.data(chunk)
            return
        if at:
            self._delivery.data(chunk[:at])
        self._end += chunk[at:]
        self.touch()
