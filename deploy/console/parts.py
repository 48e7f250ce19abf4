"""Small parts that several pages are built of: states, and what is said of faults."""

from __future__ import annotations

from html import escape

from nicegui import ui

from deploy.console.session import Session


def card() -> ui.element:
    """A surface with a border, for a part of a page."""
    return ui.element("section").classes("hr-card")


def heading(text: str) -> ui.element:
    """The heading of a part of a page (h2; the page's own title is the h1)."""
    return ui.html(text, sanitize=escape, tag="h2").classes("hr-heading")


def empty(text: str) -> ui.element:
    """That there is nothing to show, and what would change that."""
    return ui.label(text).classes("hr-empty")


def loading(text: str = "Loading …") -> ui.element:
    return ui.label(text).classes("hr-empty").props("role=status")


def problem(text: str) -> ui.element:
    """What is wrong, in a place where it belongs to what is beside it."""
    return ui.label(text).classes("hr-problem").props("role=alert")


def field(title: str, hint: str) -> ui.input:
    """A field for a line of text, with a hint below it."""
    made = ui.input(title).props("outlined dense").classes("hr-field")
    made.props["hint"] = hint
    return made


def denied(session: Session, scope: str) -> bool:
    """Whether the session's key may not see this; it is said then."""
    if session.may(scope):
        return False
    problem(
        f"The key {session.name!r} may not see this: it needs the scope {scope!r}. "
        "Sign in with a key that has it."
    )
    return True
