"""The trace of an attempt is that of the job which it is for, and the engine's call is a span."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from schemas import frames, traces
from schemas.frames import End, Op
from schemas.jobs import Job
from schemas.otel.meters import Meters
from schemas.otel.spans import Spans
from schemas.otel.telemetry import Telemetry
from schemas.otel.words import What
from schemas.settings import Engine
from schemas.traces import CURRENT, Trace
from tests.unit import fakes
from tests.unit.workers.runner_setup import FakeEngine, RunnerSetup
from workers.attempt import Attempt
from workers.engines.base import Sink
from workers.traced import Tracer, Worked

ID, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
OWN = Trace(ID, SPAN, True, "a=1", attempts=True)
OTHER = Trace("f" * 32, SPAN, True, attempts=True)
GIVEN = fakes.job(id="f" * 32, ingress="in-2", body=b"another's")
WAITED = fakes.ack().removesuffix(".0") + ".3"
"""Three jobs waited behind this one."""


class Watching(FakeEngine):
    """Keeps the trace that it was called in."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Trace | None] = []

    async def run(self, job: Job, body: bytes, sink: Sink) -> End:
        self.seen.append(CURRENT.get())
        return await super().run(job, body, sink)


@pytest.fixture
def engine(setup: RunnerSetup) -> Watching:
    made = setup.engine = Watching()
    setup.slot.engine = made
    return made


def deliver(setup: RunnerSetup, trace: Trace | None, ack: str = "") -> None:
    headers = {"Nats-Msg-Id": "x", **({} if trace is None else trace.of_job())}
    inbox = setup.bus.subscriptions[-1].subject
    setup.bus.deliver(fakes.message(inbox, fakes.job().pack(), ack or fakes.ack(), headers))


async def run(setup: RunnerSetup, trace: Trace | None) -> None:
    deliver(setup, trace)
    await setup.claimed()
    setup.say(Op.GO)
    await setup.idle()


async def test_without_a_trace_there_is_none(setup: RunnerSetup, engine: Watching) -> None:
    await run(setup, None)
    assert engine.seen == [None]
    assert CURRENT.get() is None


async def test_the_engine_is_below_the_attempt(setup: RunnerSetup, engine: Watching) -> None:
    await run(setup, OWN)
    attempt = traces.attempt_span(setup.claim().nonce)
    assert engine.seen == [OWN.within(attempt)]


async def test_no_attempt_stands_between_if_nobody_tells_of_it(
    setup: RunnerSetup, engine: Watching
) -> None:
    """Its ingress only passed on what the client sent."""
    await run(setup, Trace(ID, SPAN, True))
    assert engine.seen == [Trace(ID, SPAN, True)]


@pytest.mark.parametrize("given", [OTHER, None])
async def test_a_job_that_is_given_brings_its_own(
    setup: RunnerSetup, engine: Watching, given: Trace | None
) -> None:
    deliver(setup, OWN, WAITED)
    await setup.claimed()
    nonce = setup.claim().nonce
    control = frames.pack_control(Op.GIVE, GIVEN.id, nonce, 0, GIVEN.pack())
    headers = None if given is None else given.of_job()
    setup.bus.deliver(fakes.message(f"c.{fakes.HOLDER}", control, "", headers))
    await setup.idle()
    expected = None if given is None else given.within(traces.attempt_span(nonce))
    assert engine.seen == [expected]


class Told:
    """Telemetry, and the spans that its records make."""

    spans = True

    def __init__(self) -> None:
        self.found: dict[str, tuple[What, Trace, str, Any, str]] = {}

    def ended(self, record: Worked) -> None:
        kept = [getattr(record, name) for name in Worked.__slots__]
        assert not any(isinstance(each, Attempt | Job) for each in kept), "they hold bodies"
        record.tell(cast(Spans, SimpleNamespace(add=self._add)), cast(Meters, None))

    def _add(
        self, what: What, trace: Trace, span: str, when: Any, more: Any, error: str, remote: bool
    ) -> None:
        assert when[0] <= when[1]
        self.found[what.name] = what, trace, span, dict((*what.attributes, *more)), error


@pytest.fixture
def told(setup: RunnerSetup) -> Told:
    made = Told()
    here = Engine(name="e", kind="llamacpp", url="http://engine.test:8081")
    setup.runner.tracer = Tracer(cast(Telemetry, made))
    setup.runner.tracer.know(here)
    return made


async def test_claim_and_engine_are_told(setup: RunnerSetup, engine: Watching, told: Told) -> None:
    await run(setup, OWN)
    attempt = traces.attempt_span(setup.claim().nonce)
    assert {name: found[1].span for name, found in told.found.items()} == {
        "claim": attempt,
        "engine": attempt,
    }
    _, _, span, attributes, error = told.found["engine"]
    assert engine.seen == [OWN.within(span)]
    assert error == ""
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "llamacpp",
        "gen_ai.request.model": "echo",
        "server.address": "engine.test",
        "server.port": 8081,
        "gen_ai.usage.input_tokens": 1,
        "gen_ai.usage.output_tokens": 2,
        "gen_ai.usage.cache_read.input_tokens": 0,
    }


async def test_what_was_refused_is_below_the_request(
    setup: RunnerSetup, engine: Watching, told: Told
) -> None:
    """The ingress tells of no such attempt, but the engine had the job."""
    engine.may_end.clear()
    deliver(setup, OWN)
    await engine.began.wait()
    setup.say(Op.DROP)
    await setup.idle()
    assert list(told.found) == ["engine"]
    _, trace, _, _, error = told.found["engine"]
    assert (trace.span, error) == (SPAN, "dropped")


async def test_what_is_not_sampled_is_passed_on_alone(
    setup: RunnerSetup, engine: Watching, told: Told
) -> None:
    await run(setup, Trace(ID, SPAN, False))
    assert told.found == {}
    assert engine.seen == [Trace(ID, SPAN, False)]
