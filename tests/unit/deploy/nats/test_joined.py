import json
from pathlib import Path

import pytest

from deploy.nats import joined, rights
from schemas import nkeys
from schemas.registry import Node

LOGINS = tuple(rights.node_users(Node("gpu", served=("llama",)), nkeys.make().public))


def test_logins_come_back(tmp_path: Path) -> None:
    joined.keep(tmp_path, LOGINS)
    assert joined.load(tmp_path) == LOGINS
    assert (tmp_path / joined.FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "change",
    [
        {"known": {"nkey": "U" + "A" * 55}},
        {"known": {"nkey": 'U"} }, {user: x'}},
        {"account": "HEADRACE"},
        {"account": "SYS"},
        {"account": "none"},
        {"grant": None},
        {"grant": {"publish": ['"] } x'], "subscribe": []}},
        {"grant": {"publish": ["a..b"], "subscribe": []}},
        {"grant": {"publish": [], "subscribe": [1]}},
    ],
)
def test_a_damaged_file_lets_the_broker_start(tmp_path: Path, change: dict[str, object]) -> None:
    joined.keep(tmp_path, LOGINS)
    (first, *_) = json.loads((tmp_path / joined.FILE).read_text())
    (tmp_path / joined.FILE).write_text(json.dumps([{**first, **change}]))
    assert joined.load(tmp_path) == ()


@pytest.mark.parametrize("text", ["", "{", "1", "[1]", "null", '{"a": 1}'])
def test_what_is_no_such_file(tmp_path: Path, text: str) -> None:
    (tmp_path / joined.FILE).write_text(text)
    assert joined.load(tmp_path) == ()
