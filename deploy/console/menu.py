"""The pages of the console, in the order of its navigation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """`icon`: a name of the Material Icons that come with NiceGUI."""

    path: str
    title: str
    icon: str


OVERVIEW = Entry("/", "Overview", "dashboard")
REQUESTS = Entry("/requests", "Requests", "list_alt")
PLAYGROUND = Entry("/playground", "Playground", "chat")
COMPATIBILITY = Entry("/compatibility", "Compatibility", "fact_check")
KEYS = Entry("/keys", "Keys", "key")
USAGE = Entry("/usage", "Usage and credits", "bar_chart")
NODES = Entry("/nodes", "Nodes", "dns")

MENU = (OVERVIEW, REQUESTS, PLAYGROUND, COMPATIBILITY, KEYS, USAGE, NODES)
