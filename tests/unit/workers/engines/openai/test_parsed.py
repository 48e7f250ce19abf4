"""A large request is parsed once, as long as it is prepared."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from schemas.api.piecewise import LARGE
from workers.engines.openai import parsed
from workers.engines.openai.stream import says

REQUEST: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "x" * 2**21}]}
BODY = orjson.dumps(REQUEST)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is parsed in one go."""
    seen, loads_really = list[bytes](), orjson.loads

    def loads(body: bytes) -> Any:
        seen.append(body)
        return loads_really(body)

    monkeypatch.setattr(orjson, "loads", loads)
    return seen


async def test_it_is_parsed_once(loaded: list[bytes]) -> None:
    loaded.clear()
    await parsed.know(BODY)
    first, second = parsed.load(BODY), parsed.load(BODY)
    assert first == second == REQUEST
    first["model"] = "other"
    assert second["model"] == "m"
    sent = await parsed.written(first, BODY)
    put = parsed.write({**first, "n": 1}, BODY)
    assert (parsed.load(sent)["model"], parsed.load(put)["n"]) == ("other", 1)
    assert [body for body in loaded if len(body) > LARGE] == []
    assert orjson.loads(sent) == first
    parsed.forget()
    assert parsed.load(BODY) == REQUEST
    assert loaded[-1] is BODY


async def test_each_task_knows_its_own() -> None:
    async def one() -> bool:
        await parsed.know(BODY)
        return len(parsed._KNOWN.get()) == 1

    assert all(await asyncio.gather(*(asyncio.create_task(one()) for _ in range(3))))
    assert parsed._KNOWN.get() == ()


async def test_a_small_one_and_one_that_is_none_are_as_before() -> None:
    small = orjson.dumps({"a": 1})
    assert parsed.load(await parsed.written({"a": 1}, small)) == {"a": 1}
    assert parsed._KNOWN.get() == ()
    await parsed.know(b"{" * LARGE)
    with pytest.raises(orjson.JSONDecodeError):
        parsed.load(b"{" * LARGE)


def test_a_large_one_may_say_anything() -> None:
    assert says(BODY, b'"tools"')
    assert says(b'{"tools":[]}', b'"n"', b'"tools"')
    assert not says(b"{}", b'"tools"')
