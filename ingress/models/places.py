"""Where a model may be served for a request that is not for every node. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf

from ingress.models.pins import HEADER, Pin
from schemas.errors import ModelNotFound, NodeNotFound, NoWorker

LATER = 5.0
"""Seconds after which a client is told to try a node again."""
MOST_NAMED = 20
"""Nodes, or models, that one message names."""

SERVING = "serving"
STARTING = "starting"
"""It is there, and served the model before, or one of its engines is about to serve something."""
AWAY = "away"
DRAINED = "drained"
LACKING = "lacking"
"""It is there, and does not have the model."""


@dataclass(frozen=True, slots=True)
class Place:
    """One node, for one model. `slots`, `busy`: of its engines with the model, as its cards said
    last, and the `rank` of the first of these engines. `absent`: seconds for which it has not
    served the model, 0.0 if it does or if that is not known, and infinite if it is not expected to.
    `models`: all that it serves now."""

    node: str
    state: str
    slots: int = 0
    busy: int = 0
    absent: float = 0.0
    models: tuple[str, ...] = ()
    rank: int = 0


def serving(places: Iterable[Place]) -> list[Place]:
    return [each for each in places if each.state == SERVING]


def fault(
    pin: Pin,
    model: str,
    places: Sequence[Place],
    nodes: Sequence[str],
    usable: Callable[[Iterable[str]], Sequence[str]] = sorted,
    *,
    incomplete: bool = False,
) -> NodeNotFound | ModelNotFound | NoWorker:
    """What tells a client why no node can have its request now. `places`: of the nodes that the pin
    allows, none of which serves the model; `nodes`: all that there are for its key. `usable`: of
    models, those that its key may use. `incomplete`: other nodes may only not have been heard."""
    if not places and incomplete:
        return NoWorker("This ingress began just now. Try again soon.", retry_after=1)
    if not places:
        return _unknown(pin, nodes)
    if expected := [each for each in places if each.state != LACKING]:
        return NoWorker(f"{unserved(model, expected)}. Try again later.", retry_after=LATER)
    have = sorted(usable({each for place in places for each in place.models}))
    return _lacking(model, [place.node for place in places], have)


def _unknown(pin: Pin, nodes: Sequence[str]) -> NodeNotFound | NoWorker:
    if not pin.by_request:
        return NoWorker("None of the nodes that this key may use is here now.", retry_after=LATER)
    known = named(nodes) or "none yet: start a worker"
    what = f"There is no {str(pin).removeprefix('the ').removeprefix('a ')}"
    return NodeNotFound(f"{what}. Known nodes: {known}.", param=HEADER)


def _lacking(model: str, nodes: Sequence[str], models: Sequence[str]) -> ModelNotFound:
    have = named(models) or "nothing"
    if len(nodes) == 1:
        why = f"The node {nodes[0]!r} does not serve {model!r}. It serves: {have}."
    else:
        why = f"None of the nodes {named(nodes)} serves {model!r}. They serve: {have}."
    return ModelNotFound(why, param="model")


def unserved(model: str, places: Sequence[Place]) -> str:
    """Why none of these, of which one may serve the model again, does so now."""
    if not places:
        return f"No node that the request may go to serves {model!r} any more"
    if len(places) > 1:
        return f"No node that the request may go to serves {model!r} now ({_states(places)})"
    (place,) = places
    if place.state == STARTING:
        return f"The node {place.node!r} does not serve {model!r} now: its engine is not ready"
    return f"The node {place.node!r} is {place.state}"


def _states(places: Sequence[Place]) -> str:
    return ", ".join(f"{each.node}: {each.state}" for each in places[:MOST_NAMED])


def named(names: Sequence[str]) -> str:
    """As many of the names as a message should have."""
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def absent(places: Iterable[Place]) -> float:
    """Seconds for which none of them has served the model; infinite if none is expected to."""
    return min((each.absent for each in places), default=inf)
