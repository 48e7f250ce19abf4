from __future__ import annotations

import pytest

from deploy import models
from deploy.configure import CommandFailed
from deploy.models import Row
from schemas import subjects
from schemas.jetstream.queues import Queue
from schemas.nodes import Card, ServedModel


def test_models_are_those_with_queues_and_those_that_are_served() -> None:
    served = (ServedModel("here", "e", "echo", 1), ServedModel("new", "e", "echo", 1))
    queues = [
        Queue("here", subjects.INTERACTIVE, 3, 1, 2, None, 0, True),
        Queue("here", subjects.BATCH, 1, 1, 0, None, 0, True),
        Queue("ghost", subjects.INTERACTIVE, 0, 0, 0, None, 0, True),
    ]
    cards = [Card(f"{name}.x", name, "s", 1, "1", models=served) for name in ("b", "a")]
    assert models.rows(queues, cards) == [
        Row("ghost", (), ("interactive",), 0),
        Row("here", ("a", "b"), ("batch", "interactive"), 4),
        Row("new", ("a", "b"), (), 0),
    ]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("here", "gpu serves it"),
        ("busy", "2 jobs wait"),
        ("gost", "did you mean 'ghost'"),
        ("zzz", "headrace model list"),
    ],
)
def test_what_cannot_be_forgotten(name: str, why: str) -> None:
    found = [Row("here", ("gpu",), (), 0), Row("busy", (), (), 2), Row("ghost", (), (), 0)]
    with pytest.raises(CommandFailed, match=why):
        models.check(name, found)
    models.check("ghost", found)
