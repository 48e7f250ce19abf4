"""What the fabric promises: probed at the real edge, and at edges that do not keep it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace

import orjson
import pytest

from deploy.compat.probes import ROWS
from deploy.compat.run import Cell, examine
from deploy.compat.target import Facts, Target
from deploy.compat.transport import Answer, Ask
from schemas.nodes import Ignored, ServedModel
from tests.unit.deploy.compat.model import error, whole
from tests.unit.ingress.loopback import KEY, LoopbackIngress, loopback_ingress

BY_ID = {row.id: row for row in ROWS}
FACTS = Facts(
    engines=("echo",),
    nodes=("node",),
    features=("chat",),
    ignores={"chat": frozenset({"logit_bias", "verbosity"})},
    listens="0.0.0.0",
)
IGNORED = tuple(
    Ignored(name, "it does not know it", ("chat",)) for name in ("logit_bias", "verbosity")
)


@dataclass(frozen=True, slots=True)
class AppClient:
    """The ASGI application without a socket. `pretends`: answers in place of its own, by path."""

    loopback_ingress: LoopbackIngress
    pretends: dict[str, Answer]

    async def send(self, ask: Ask) -> Answer:
        if ask.path in self.pretends:
            return self.pretends[ask.path]
        key = KEY if ask.key is None else ask.key
        headers = {"content-type": ask.content_type, **ask.headers}
        if key:
            headers["authorization"] = f"Bearer {key}"
        found = await self.loopback_ingress.call(ask.method, ask.path, ask.body, headers)
        return Answer(found.status, found.headers, found.body)


@pytest.fixture
async def ingress() -> AsyncIterator[LoopbackIngress]:
    async with loopback_ingress("echo://?model=echo", "echo://?model=ohce") as made:
        model = ServedModel("echo", "e", "echo", 4, features=("chat",), ignores=IGNORED)
        made.serve(model, replace(model, id="ohce"))
        yield made


async def probed(
    row: str,
    ingress: LoopbackIngress,
    facts: Facts = FACTS,
    pretends: Mapping[str, Answer] | None = None,
) -> Cell:
    paths = {f"/v1/{name}": answer for name, answer in (pretends or {}).items()}
    return await examine(BY_ID[row], Target("echo", facts, whole(AppClient(ingress, paths).send)))


def seen(**fields: object) -> Answer:
    return Answer(200, {"content-type": "application/json"}, orjson.dumps(fields))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("models", "listed with 1 others, and shown by its name"),
        ("keys", "the right key gets 200, a wrong one and none get 401 invalid_api_key"),
        ("several_models", "2 models, each of which answered by its own name"),
        ("reachable", "node node answered over the connection that its worker had dialled"),
        ("errors", "6 faults, each a 4xx with message, type, param and code"),
        ("nothing_silent", "logit_bias would do nothing: 400 unsupported_parameter, or a warning"),
        ("hints", "verbosity: taken, and the warning names them"),
        ("packed", "a packed body gets 200; another coding gets 415"),
        ("request_id", "the client's id comes back, on errors too; without one there is a new"),
    ],
)
async def test_the_real_edge_keeps_its_promises(
    row: str, reason: str, ingress: LoopbackIngress
) -> None:
    cell = await probed(row, ingress)
    assert cell.answer == "yes", cell.reason
    assert cell.reason.startswith(reason)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_an_ingress_of_this_machine_alone(host: str, ingress: LoopbackIngress) -> None:
    cell = await probed("reachable", ingress, replace(FACTS, listens=host))
    assert cell.answer == "partial"
    assert f"but this ingress itself listens on {host} alone" in cell.reason


async def test_one_model_is_not_several(ingress: LoopbackIngress) -> None:
    ingress.serve(ServedModel("echo", "e", "echo", 4, features=("chat",)))
    cell = await probed("several_models", ingress)
    assert (cell.answer, cell.reason.startswith("one model is served")) == ("partial", True)


BROKEN: list[tuple[str, dict[str, Answer], str]] = [
    ("keys", {"chat/completions": seen()}, "no key gets 200, not 401"),
    ("models", {"models": seen(object="list", data=[])}, "the model is not in the list"),
    ("models", {"models": error(503, "away", "gone")}, "503 away: gone"),
    ("several_models", {"chat/completions": error(503, "away", "gone")}, "echo: 503"),
    ("several_models", {"chat/completions": seen(model="mill")}, "echo answered as 'mill'"),
    ("reachable", {"chat/completions": seen()}, "does not tell which node it came from"),
    ("errors", {"chat/completions": seen()}, "a wrong type gets 200, not 400"),
    ("errors", {"chat/completions": error(400, "", "x")}, "a wrong type: "),
    ("nothing_silent", {"chat/completions": seen()}, "logit_bias would do nothing, and gets 200"),
    ("hints", {"chat/completions": seen()}, "verbosity would do nothing, and no warning says so"),
    ("packed", {"chat/completions": error(400, "", "no JSON")}, "no JSON"),
    ("packed", {"chat/completions": seen()}, "another coding gets 200, not 415"),
    ("request_id", {"models": seen()}, "the id that was sent does not come back"),
]


@pytest.mark.parametrize(("row", "pretends", "why"), BROKEN)
async def test_an_edge_that_does_not(
    row: str, pretends: dict[str, Answer], why: str, ingress: LoopbackIngress
) -> None:
    cell = await probed(row, ingress, FACTS, pretends)
    assert cell.answer == "no", cell.reason
    assert why in cell.reason


async def test_where_no_field_is_passed_over(ingress: LoopbackIngress) -> None:
    cell = await probed("nothing_silent", ingress, replace(FACTS, ignores={}))
    assert (cell.answer, "name no field" in cell.reason) == ("yes", True)


@dataclass(frozen=True, slots=True)
class StrictEdge:
    """Refuses `field` wherever it is asked for, unless leniently."""

    field: str
    asked: list[Ask]

    async def send(self, ask: Ask) -> Answer:
        self.asked.append(ask)
        if self.field.encode() not in ask.body:
            return seen()
        if "x-headrace-lenient" in ask.headers:
            return Answer(200, {"x-headrace-warning": f"{self.field} has no effect"}, b"{}")
        return error(400, "unsupported_parameter", "no", self.field)


@pytest.mark.parametrize(
    ("features", "field", "path"),
    [
        (("images", "edits"), "background", "/v1/images/generations"),
        (("transcriptions", "translations"), "stream", "/v1/audio/transcriptions"),
    ],
)
async def test_models_that_do_not_chat_are_asked_in_their_way(
    features: tuple[str, ...], field: str, path: str
) -> None:
    server = StrictEdge(field, [])
    facts = replace(FACTS, features=features, ignores={features[0]: frozenset({field})})
    cell = await examine(BY_ID["nothing_silent"], Target("echo", facts, whole(server.send)))
    assert cell.answer == "yes", cell.reason
    assert cell.reason.startswith(f"{field} would do nothing")
    assert [ask.path for ask in server.asked] == [path, path]
