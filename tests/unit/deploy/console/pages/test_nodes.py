"""What the page of nodes says, and what it asks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from nicegui import Client
from nicegui.page import page

from deploy.console.pages import nodes
from deploy.console.pages.nodes import _Page
from deploy.console.roll import Roll, RollFault
from deploy.console.session import Session
from deploy.nodes.changes import Outcome
from deploy.nodes.listing import Row


@dataclass
class Hub:
    """`fault`: why it cannot be looked at. `answers`: set once it may answer."""

    fault: str = ""
    asked: list[str] = field(default_factory=list)
    was_asked: asyncio.Event = field(default_factory=asyncio.Event)
    answers: asyncio.Event = field(default_factory=asyncio.Event)

    async def rows(self, _: Any) -> list[Row]:
        if self.fault:
            raise RollFault(self.fault)
        return []

    async def change(self, verb: str, name: str, by: str, **more: Any) -> Outcome:
        self.asked.append(name)
        self.was_asked.set()
        await self.answers.wait()
        raise RuntimeError("broken")


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
def shown(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Page]:
    async def good(_: Session) -> bool:
        return True

    monkeypatch.setattr(nodes, "is_still_good", good)
    session = SimpleNamespace(name="admin", feed=SimpleNamespace(survey=None))
    with Client(page("/nodes")) as client:
        yield _Page(cast(Roll, hub), cast(Session, session))
    client.delete()


async def test_a_fault_is_gone_with_the_next_look(hub: Hub, shown: _Page) -> None:
    await shown._look()
    assert shown._said.text.startswith("No node is here")
    hub.fault = "The broker is away."
    await shown._look()
    assert shown._said.text == hub.fault
    hub.fault = ""
    await shown._look()
    assert shown._said.text.startswith("No node is here")


async def test_two_enters_are_one_invitation(hub: Hub, shown: _Page) -> None:
    invite = next(
        listener.handler
        for element in shown._table.client.elements.values()
        for listener in element._event_listeners.values()
        if listener.type == "keydown.enter"
    )
    assert invite is not None
    with shown._table.client:
        first = asyncio.create_task(invite())
        await hub.was_asked.wait()
        await invite()
        assert len(hub.asked) == 1
        hub.answers.set()
        with pytest.raises(RuntimeError):
            await first
        with pytest.raises(RuntimeError):
            await invite()  # what broke leaves the button as it was
    assert len(hub.asked) == 2
