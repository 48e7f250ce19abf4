"""Tables of texts as HTML: they need no script, and readers of screens know them. Pure, but for
`table`, which puts one on a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from nicegui import ui


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, label: str = "") -> ui.element:
    """The first column names a row; `label`: what the table is, for who cannot see it."""
    return ui.html(drawn(titles, rows, label=label), sanitize=False)  # made by us, and escaped


def drawn(titles: Sequence[str], rows: Iterable[Sequence[str]], *, label: str = "") -> str:
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    body = "".join(f"<tr>{_cells(row)}</tr>" for row in rows)
    return framed(
        f'<table class="hr-plain"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>',
        label or "Table",
    )


def framed(html: str, label: str) -> str:
    """What may be wider than the page: it scrolls by itself, by keyboard too."""
    return (
        f'<div class="hr-scroll" tabindex="0" role="region" aria-label="{escape(label)}">'
        f"{html}</div>"
    )


def _cells(row: Sequence[str]) -> str:
    first, *rest = row
    return f'<th scope="row">{escape(first)}</th>' + "".join(
        f"<td>{escape(cell)}</td>" for cell in rest
    )
