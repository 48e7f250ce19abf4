"""Figures of an answer: names and values, side by side."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from nicegui import ui


def figures(found: Iterable[tuple[str, str]]) -> ui.element:
    said = "".join(
        f"<div><dt>{escape(what)}</dt><dd>{escape(figure)}</dd></div>" for what, figure in found
    )
    return ui.html(said, sanitize=False, tag="dl").classes("hr-figures")  # escaped above
