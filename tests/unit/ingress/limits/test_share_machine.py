"""Whatever is late, lost or dead: no window and no moment has more than the limits allow."""

from __future__ import annotations

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from schemas.keys import Limits
from tests.unit.conftest import EXAMPLES
from tests.unit.ingress.limits.world import World

NODES = st.integers(0, 1)
TOKENS = st.integers(1, 40)
TIMES = [1, 3, 20, 200, 260, 700, 950, 1010, 1250, 2600]
PARTS = [0.0, 0.5, 1.0]


class Machine(RuleBasedStateMachine):
    @initialize(
        requests=st.none() | st.integers(1, 12),
        tokens=st.none() | st.integers(40, 200),
        concurrent=st.none() | st.integers(1, 20),
    )
    def begin(self, requests: int | None, tokens: int | None, concurrent: int | None) -> None:
        wanted = Limits(requests=requests, tokens=tokens, concurrent=concurrent)
        self.world = World(wanted, nodes=2)

    @rule(ms=st.sampled_from(TIMES))
    def time_passes(self, ms: int) -> None:
        self.world.pass_time(ms)

    @rule(number=NODES, tokens=TOKENS)
    def admit(self, number: int, tokens: int) -> None:
        self.world.admit(self.world.nodes[number], tokens)

    @rule(number=NODES, tokens=TOKENS)
    def ask(self, number: int, tokens: int) -> None:
        self.world.ask(self.world.nodes[number], tokens)

    @rule(number=NODES)
    def tick(self, number: int) -> None:
        self.world.tick(self.world.nodes[number])

    @rule(number=NODES)
    def look(self, number: int) -> None:
        self.world.look(self.world.nodes[number])

    @rule(number=NODES, wanted=st.lists(TOKENS, max_size=4))
    def propose(self, number: int, wanted: list[int]) -> None:
        self.world.propose(self.world.nodes[number], wanted)

    @rule(number=NODES)
    def store(self, number: int) -> None:
        self.world.store(self.world.nodes[number])

    @rule(number=NODES)
    def hear(self, number: int) -> None:
        self.world.hear(self.world.nodes[number])

    @rule(number=NODES)
    def give_up(self, number: int) -> None:
        self.world.give_up(self.world.nodes[number])

    @rule(number=NODES)
    def arrive_late(self, number: int) -> None:
        self.world.arrive_late(self.world.nodes[number])

    @rule(number=NODES, part=st.sampled_from(PARTS))
    def finish(self, number: int, part: float) -> None:
        self.world.finish(self.world.nodes[number], part)

    @rule(number=NODES)
    def kill(self, number: int) -> None:
        self.world.kill(number)

    @invariant()
    def within_the_limits(self) -> None:
        if hasattr(self, "world"):
            self.world.check()


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=EXAMPLES, stateful_step_count=60, deadline=None)


def stir(world: World, chance: random.Random) -> None:
    """One step of an ingress that is asked a lot, at a store that is slow and loses answers."""
    number = chance.randrange(len(world.nodes))
    node, tokens = world.nodes[number], chance.randint(1, 40)
    steps = (
        (20, lambda: world.admit(node, tokens)),
        (10, lambda: [world.admit(node, 2) for _ in range(chance.choice([5, 50]))]),
        (10, lambda: world.propose(node, [chance.randint(1, 40)] * chance.randint(0, 3))),
        (10, lambda: world.look(node)),
        (20, lambda: world.store(node)),
        (20, lambda: world.hear(node)),
        (12, lambda: world.finish(node, chance.choice(PARTS))),
        (8, lambda: world.ask(node, tokens)),
        (5, lambda: world.tick(node)),
        (25, lambda: world.pass_time(chance.choice([1, 3, 20, 60]))),
        (2, lambda: world.pass_time(chance.choice(TIMES))),
        (1, lambda: world.give_up(node)),
        (1, lambda: world.arrive_late(node)),
        (0.3, lambda: world.kill(number)),
    )
    weights = [weight for weight, _ in steps]
    chance.choices([step for _, step in steps], weights)[0]()


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_a_storm_stays_within_the_limits(seed: int) -> None:
    chance = random.Random(seed)
    wanted = Limits(
        requests=chance.choice([None, 1, 5, 30, 200]),
        tokens=chance.choice([None, 60, 200, 1500]),
        concurrent=chance.choice([None, 1, 3, 10, 40]),
    )
    world = World(wanted, nodes=chance.randint(1, 3), doubt=chance.choice([1, 20, 70]))
    for _ in range(600):
        stir(world, chance)
        world.check()
