"""What the broker tells, as tables of the overview: models with their slots, who waits, nodes with
their engines. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from deploy.console.pages import tables
from deploy.console.pages.tables import Cell
from deploy.findings import Finding
from deploy.nodes import listing
from deploy.served import Served, pace, served
from deploy.status import span
from deploy.survey import Survey
from schemas import subjects
from schemas.nodes import Card, EngineState

STARTING = "starting"
GONE = 900.0
"""Seconds for which a node that left is shown."""
MOST_GONE = 500
_TONES: Mapping[str, str] = {
    "ready": "good", STARTING: "wait", "stopping": "wait", "stopped": "off", "failed": "bad",
}  # fmt: skip

MODEL_COLUMNS = ("model", "slots", ">waiting", ">oldest wait", ">running", ">dead letters")
QUEUE_COLUMNS = ("model", "lane", "account", ">waiting", ">oldest wait")
NODE_COLUMNS = ("node", "state", "engine", "engine's state", "slots", "pace", "since")


@dataclass(frozen=True, slots=True)
class Model:
    """One line of the models: a model and lane, or an engine whose models are not known yet."""

    name: str
    busy: int
    free: int
    starting: int
    waiting: int
    oldest: float | None
    running: int
    dead: int


class Memory:
    """What the cards do not say any more: which models an engine had that starts again, and which
    nodes were here."""

    def __init__(self) -> None:
        self._had: dict[tuple[str, str], frozenset[str]] = {}
        self._here: dict[str, float] = {}
        """When each node was here last, in Unix seconds."""

    def learn(self, cards: Sequence[Card], now: float) -> None:
        """All cards that are here. `now`: Unix seconds."""
        self._here.update((card.node, now) for card in cards)
        kept = sorted(self._here.items(), key=lambda each: -each[1])[:MOST_GONE]
        self._here = {node: at for node, at in kept if now - at < GONE}
        self._learn_models(cards)

    def gone(self, cards: Iterable[Card]) -> list[tuple[str, float]]:
        """Nodes that were here lately, and when they were last."""
        here = {card.node for card in cards}
        return sorted(each for each in self._here.items() if each[0] not in here)

    def _learn_models(self, cards: Iterable[Card]) -> None:
        had: dict[tuple[str, str], frozenset[str]] = {}
        for card in cards:
            has = defaultdict[str, set[str]](set)
            for model in card.models:
                has[model.engine].add(model.id)
            for engine in card.engines:
                known = self._had.get((card.node, engine.name), frozenset())
                had[card.node, engine.name] = frozenset(has[engine.name]) or known
        self._had = had

    def had(self, node: str, engine: str) -> frozenset[str]:
        return self._had.get((node, engine), frozenset())


def models(survey: Survey, memory: Memory) -> list[Model]:
    """Those that are served or waited for, and engines that start, of which it is not known what
    they will serve."""
    starting, unknown = Counter[str](), list[Model]()
    for card, engine in _engines(survey.cards):
        if engine.state != STARTING:
            continue
        slots = max(1, engine.slots)
        if not (had := memory.had(card.node, engine.name)):
            name = f"({engine.name} on {card.node})"
            unknown.append(Model(name, 0, 0, slots, 0, None, 0, 0))
        starting.update(dict.fromkeys(had, slots))
    found = [_model(each, starting) for each in served(survey)]
    named = {each.queue.model for each in served(survey)}
    found += [Model(n, 0, 0, s, 0, None, 0, 0) for n, s in starting.items() if n not in named]
    return [*found, *unknown]


def of_queues(said: Iterable[Mapping[str, Any]]) -> list[Model]:
    """The same by the rows of ``GET /v1/queue``, for who sees but some models."""
    return [
        Model(
            str(row["model"]),
            busy := min(int(row["running"]), int(row["slots"])),
            int(row["slots"]) - busy,
            0,
            int(row["waiting"]),
            row["oldest_wait"],
            int(row["running"]),
            0,
        )
        for row in said
    ]


def _model(each: Served, starting: Mapping[str, int]) -> Model:
    queue = each.queue
    plain = queue.lane == subjects.INTERACTIVE
    name = queue.model if plain else f"{queue.model} ({subjects.lane_name(queue.lane)})"
    return Model(
        name,
        each.busy,
        max(0, each.slots - each.busy),
        starting.get(queue.model, 0) if plain else 0,
        queue.waiting,
        queue.oldest,
        queue.in_flight,
        each.dead,
    )


def model_rows(found: Iterable[Model]) -> Iterator[Sequence[Cell]]:
    for each in found:
        slots = each.busy + each.free + each.starting
        yield (
            each.name,
            tables.bar(each.busy, each.free, each.starting)
            if slots
            else tables.badge("nobody serves it", "bad"),
            str(each.waiting),
            "–" if each.oldest is None else span(each.oldest),
            str(each.running),
            tables.badge(str(each.dead), "bad") if each.dead else "0",
        )


def queue_rows(survey: Survey) -> Iterator[Sequence[Cell]]:
    for row in survey.waiting:
        yield (
            row.model,
            subjects.lane_name(row.lane),
            row.account,
            str(row.waiting),
            span(row.oldest),
        )


def node_rows(survey: Survey, memory: Memory, now: float) -> Iterator[Sequence[Cell]]:
    """A row for each engine, and for each node that is not here. `now`: Unix seconds."""
    for card in survey.cards:
        state = (
            tables.badge("draining", "wait") if card.draining else tables.badge("serving", "good")
        )
        since = f"up for {age(now - card.started)}"
        if not card.engines:
            yield card.node, state, "–", "–", "–", "–", since
        for engine in card.engines:
            yield (
                card.node,
                state,
                f"{engine.name} ({engine.kind})",
                _state(engine),
                _slots(engine),
                pace(card, engine.name),
                since,
            )
    for row in survey.absent:
        yield _absent(row.name, row.state, age(now - row.since) if row.since else "")
    known = {row.name for row in survey.absent}
    for node, at in memory.gone(survey.cards):
        if node not in known:
            yield _absent(node, "gone", age(now - at))


def _absent(node: str, state: str, since: str) -> Sequence[Cell]:
    tone = "bad" if state in ("gone", listing.AWAY) else "wait"
    return node, tables.badge(state, tone), *["–"] * 4, f"for {since}" if since else "–"


def age(seconds: float) -> str:
    """How long something has been so, to the second for a minute only: it is shown anew if it
    changes."""
    said = span(seconds) if seconds >= 10 else f"{max(0, round(seconds))} s"
    minutes, unit, _ = said.partition(" min ")
    return minutes + unit.rstrip() if unit else said


def _state(engine: EngineState) -> Markup:
    shown = tables.badge(engine.state, _TONES.get(engine.state, "bad"))
    if not engine.reason:
        return shown
    return Markup('{} <span class="hd-reason">{}</span>').format(shown, engine.reason)


def _slots(engine: EngineState) -> Cell:
    if engine.state == STARTING:
        return tables.bar(0, 0, engine.slots)
    if engine.state != "ready":
        return "–"
    return tables.bar(engine.busy, max(0, engine.slots - engine.busy), 0)


def _engines(cards: Iterable[Card]) -> Iterator[tuple[Card, EngineState]]:
    return ((card, engine) for card in cards for engine in card.engines)


@dataclass(frozen=True, slots=True)
class Totals:
    """The whole, in numbers. `slots`: those of engines that are ready."""

    nodes: int
    models: int
    slots: int
    busy: int
    waiting: int


def totals(survey: Survey) -> Totals:
    ready = [engine for _, engine in _engines(survey.cards) if engine.state == "ready"]
    return Totals(
        nodes=len({card.node for card in survey.cards}),
        models=len({model.id for card in survey.cards for model in card.models}),
        slots=sum(engine.slots for engine in ready),
        busy=sum(engine.busy for engine in ready),
        waiting=sum(queue.waiting for queue in survey.queues),
    )


def tiles(survey: Survey) -> Markup:
    """The whole in numbers."""
    found = totals(survey)
    shown: Mapping[str, Markup | str] = {
        "Nodes": str(found.nodes),
        "Models": str(found.models),
        "Slots busy": Markup("{} <small>of {}</small>").format(found.busy, found.slots),
        "Waiting": str(found.waiting),
    }
    return Markup('<dl class="hd-tiles">{}</dl>').format(
        Markup("").join(
            Markup('<div class="hd-tile"><dt>{}</dt><dd>{}</dd></div>').format(name, said)
            for name, said in shown.items()
        )
    )


def warnings(found: Iterable[Finding] | None) -> Markup:
    """What 'headrace doctor' would say that is not well. None: it was not asked yet."""
    if found is None:
        return tables.note("Looking …")
    items = [
        Markup('<li class="hd-{}">{}{}</li>').format(
            each.level,
            each.what,
            Markup("<p>{}</p>").format(each.mend) if each.mend else "",
        )
        for each in found
        if each.level != "ok"
    ]
    if not items:
        return tables.note("All is well, as far as 'headrace doctor' sees from here.")
    return Markup('<ul class="hd-warnings">{}</ul>').format(Markup("").join(items))
