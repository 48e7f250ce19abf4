"""Providers as one engine: reserves credits, asks one provider after the other, settles.

The order of the steps keeps money safe: reserve while the ingress grants the claim; call no
provider before the grant; settle before the last frame, so that a client that sees the end of an
answer has been charged for it exactly once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import structlog

from fallback.attempt import Delivery, Payment, ProviderAttempt
from fallback.breaker import Breaker
from fallback.cost import pricing
from fallback.cost.pricing import PriceList, Unpriced
from fallback.cost.spent import Spent
from fallback.credits.billing import Billing
from fallback.policy import Choice, Chosen, CloudRoutes, choose, micro
from fallback.providers.base import Provider, ProviderFault, Task
from fallback.providers.request import request_at_leisure, request_of
from fallback.traced import called
from schemas import metrics, subjects
from schemas.api.piecewise import LARGE
from schemas.frames import End
from schemas.jobs import Job
from schemas.nodes import EngineState
from schemas.settings import Fallback
from workers.engines.base import EngineFault, Sink

if TYPE_CHECKING:
    from schemas.otel.telemetry import Telemetry

log = structlog.get_logger("cloud")

ROUNDS = 3
"""How often each provider of a route is asked for one job."""
PATIENCE = 20.0
"""Seconds that a job waits for providers that said when to come back, if it has so many in all. Its
ingress alone knows how many it has left, and stops it: the clock here may be wrong."""
_PAUSE = 0.2
"""Least seconds between the first two rounds; each later pause is longer by as much."""
_LONG = 60.0
"""Seconds for which a provider that does not take our key is left alone."""


class ProviderSlots:
    """One provider: its breaker, and the calls that may be under way there."""

    def __init__(self, provider: Provider, breaker: Breaker, count: int) -> None:
        self.provider = provider
        self.breaker = breaker
        self.count = count
        self.free = asyncio.Semaphore(count)
        self.busy = 0

    async def call(self, task: Task, answer: Sink) -> Spent:
        """Raises ProviderFault, once the breaker knows of it."""
        self.busy += 1
        try:
            spent = await self.provider.call(task, answer)
        except ProviderFault as fault:
            self._judge(fault, asyncio.get_running_loop().time())
            raise
        except BaseException:  # cancelled, or a fault of ours
            self.breaker.undecided()
            raise
        finally:
            self.busy -= 1
        if not self.breaker.well:
            self.breaker.succeeded()
        return spent

    def _judge(self, fault: ProviderFault, now: float) -> None:
        name = self.provider.name
        metrics.PROVIDER_FAULTS.labels(name, fault.reason).inc()
        about = {"error": fault.message, "said": fault.detail}
        log.warning("provider.fault", provider=name, reason=fault.reason, **about)
        if fault.reason == "busy":
            self.breaker.busy(now, fault.retry_after, fault.message)
        elif fault.reason == "key":
            self.breaker.trip(now, _LONG, fault.message)
        elif fault.reason == "absent":  # its other models may work, so nothing is held against it
            self.breaker.undecided()
        else:
            self.breaker.failed(now, fault.message)


class CloudEngine:
    """All providers as one engine (`workers.runner.Runnable`)."""

    name = "cloud"
    kind = "provider"

    def __init__(
        self,
        providers: Sequence[tuple[Provider, int]],
        routes: CloudRoutes,
        prices: PriceList,
        billing: Billing,
        config: Fallback,
    ) -> None:
        """`providers`: each with the number of calls that may be under way there."""
        self.providers = {
            provider.name: ProviderSlots(
                provider, Breaker(config.breaker_failures, config.breaker_open), count
            )
            for provider, count in providers
        }
        self._routes = routes
        self._prices = prices
        self._billing = billing
        self._slots = config.slots
        self.telemetry: Telemetry | None = None
        """What is told to OpenTelemetry; None if nothing is."""

    async def open(self) -> None:
        for slots in self.providers.values():
            try:
                await slots.provider.open()
            except ProviderFault as fault:
                raise EngineFault(fault.message) from None

    def renew(self) -> None:
        """Read the providers' keys anew, and ask those again that did not take the old ones.
        Raises ProviderFault."""
        for slots in self.providers.values():
            slots.provider.renew()
            slots.breaker.succeeded()

    async def close(self) -> None:
        """Waits until all calls are settled."""
        await self._billing.close()
        for slots in self.providers.values():
            await slots.provider.close()

    def states(self) -> Iterator[EngineState]:
        """The state of each provider, in the form that cards have."""
        now = asyncio.get_running_loop().time()
        for name, slots in self.providers.items():
            shut = slots.breaker.state(now) == "open"
            state, why = ("failed", slots.breaker.reason) if shut else ("ready", "")
            yield EngineState(name, slots.provider.kind, state, slots.count, slots.busy, why)

    async def probe(self) -> bool:
        """Each call has time-outs of its own, so a running call is alive."""
        return True

    async def run(self, job: Job, body: bytes, delivery: Delivery) -> End:
        """Raises EngineFault, or Withdrawn if another holder has the job."""
        attempt = await self._attempt(job, body, delivery)
        payment = await self._billing.reserve(attempt, self._choose(attempt))
        try:
            # The future is the delivery's: cancelling this run must not cancel it.
            await asyncio.shield(delivery.permitted)
            return await self._ask_all(payment)
        finally:
            if not payment.closed:
                self._billing.abandon(payment)

    async def _attempt(self, job: Job, body: bytes, delivery: Delivery) -> ProviderAttempt:
        route = self._routes.of(job)
        if route is None:  # the ingress knows a route that this process does not
            why = f"no provider may have {job.asked!r} by this fallback's configuration"
            raise _declined(job, why)
        if len(body) <= LARGE:
            request, bounded = request_of(job, body)
        else:
            request, bounded = await request_at_leisure(job, body)
        return ProviderAttempt(job, delivery, route, request, bounded, time.time())

    def _choose(self, attempt: ProviderAttempt) -> Chosen:
        """Raises EngineFault if no provider can take the request as it is."""
        limit, jobs = micro(attempt.route.max_price), attempt.job.together
        chosen = choose(attempt.route, partial(self._worst, attempt), limit, jobs)
        if not chosen.choices:
            why = f"no provider can take this request: {chosen.why}"
            raise _declined(attempt.job, why, "no_provider")
        return chosen.ordered(partial(self._lost_hints, attempt))

    def _lost_hints(self, attempt: ProviderAttempt, choice: Choice) -> int:
        return self.providers[choice.provider].provider.lost_hints(_task(attempt, choice.model))

    def _worst(self, attempt: ProviderAttempt, name: str, model: str) -> int | str:
        """The most that the job can cost there (micro-units), or why it cannot go there."""
        provider, endpoint = self.providers[name].provider, attempt.job.endpoint
        if endpoint not in provider.endpoints(model):
            return f"{model} has no {endpoint}"
        if why := provider.unfit(_task(attempt, model)):
            return why
        price = self._prices.get((name, model))
        if price is None:
            return f"{model} has no price"
        try:
            return pricing.worst_case(endpoint, attempt.request, len(attempt.body), price)
        except Unpriced as lacks:
            return str(lacks)

    async def _ask_all(self, payment: Payment) -> End:
        """Ask one provider after the other, and again after a pause. Raises EngineFault."""
        faults: dict[str, str] = {}
        left, job = list(payment.chosen.choices), payment.attempt.job
        clock = asyncio.get_running_loop().time
        until = clock() + min(PATIENCE, (job.total_by - job.arrived) / 1000)
        for turn in range(ROUNDS):
            for choice in self._free_first(left):
                slots = self.providers[choice.provider]
                async with slots.free:
                    # Only now: the breaker may have opened while this waited for a slot.
                    if not (slots.breaker.well or slots.breaker.admit(clock())):
                        faults.setdefault(choice.provider, f"left alone: {slots.breaker.reason}")
                        continue
                    try:
                        return await self._ask(payment, choice, slots)
                    except ProviderFault as fault:
                        faults[choice.provider] = fault.message
                        if fault.reason == "absent":  # no later round would find the model either
                            left.remove(choice)
            if turn == ROUNDS - 1 or not left:
                break
            again = self._again(left, clock(), turn)
            if again > until:
                break
            await asyncio.sleep(again - clock())
        told = "; ".join(f"{name}: {why}" for name, why in faults.items())
        raise _declined(job, f"no provider could answer: {told}")

    def _free_first(self, choices: Sequence[Choice]) -> list[Choice]:
        """In the order of the route, except that providers without a free slot come last."""
        return sorted(choices, key=lambda each: self.providers[each.provider].free.locked())

    def _again(self, choices: Sequence[Choice], now: float, turn: int) -> float:
        """When to ask these providers once more."""
        soonest = min(self.providers[each.provider].breaker.ready_at(now) for each in choices)
        return max(soonest, now + _PAUSE * (turn + 1))

    async def _ask(self, payment: Payment, choice: Choice, slots: ProviderSlots) -> End:
        """Raises ProviderFault if another provider may still answer, EngineFault if not."""
        billing, attempt = self._billing, payment.attempt
        answer = billing.answer(payment, choice)
        task = _task(attempt, choice.model)
        payment.running = choice, task  # from here on `abandon` charges what the call used
        try:
            spent = await self._call(slots, task, answer)
        except ProviderFault as fault:
            payment.running = None
            if not answer.begun:  # the client has nothing of it: another provider may answer
                raise
            spent = task.spent
            await billing.charge(payment, billing.purchase(payment, choice, spent), spent)
            why = f"{choice.provider}: {fault.message}; the answer is not complete"
            raise EngineFault(why, code="stream_interrupted", retryable=False) from None
        await billing.sell(payment, choice, spent, answer)
        took = time.monotonic() - attempt.since
        metrics.PROVIDER_SECONDS.labels(choice.provider).observe(took)
        return End(spent.prompt, spent.completion, spent.cached, round(took * 1000))

    async def _call(self, slots: ProviderSlots, task: Task, answer: Sink) -> Spent:
        """Raises ProviderFault."""
        if self.telemetry is None:
            return await slots.call(task, answer)
        with called(self.telemetry, task, slots.provider.kind, slots.provider.host) as told:
            spent = told.spent = await slots.call(task, answer)
            return spent


def _task(attempt: ProviderAttempt, model: str) -> Task:
    job = attempt.job
    return Task(job, model, attempt.request, attempt.body, job.content_type)


def _declined(job: Job, why: str, code: str = "provider_failed") -> EngineFault:
    """A fault that lets workers still take the job, unless the job is for providers alone."""
    return EngineFault(why, code=code, retryable=job.lane != subjects.CLOUD)
