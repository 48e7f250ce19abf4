"""Tables as HTML: real ones, for screen readers, that become a list of cards on narrow screens (by
the style sheet). Pure. All texts are escaped, as clients and engines may have written them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

Cell = str | Markup
"""A `Markup` is put in as it is."""

MOST = 200
"""Rows of one table."""


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Markup:
    """The first cell of each row names it. Columns whose names begin with ``>`` hold numbers. The
    roles are there because browsers drop those of tables that are laid out otherwise."""
    rows = list(rows)
    numbers = [column.startswith(">") for column in columns]
    names = [column.lstrip(">") for column in columns]
    head = Markup("").join(
        Markup('<th role="columnheader" scope="col"{}>{}</th>').format(_right(number), name)
        for name, number in zip(names, numbers, strict=True)
    )
    body = Markup("").join(_row(row, names, numbers) for row in rows[:MOST])
    more = Markup('<p class="hd-more">and {} more</p>').format(len(rows) - MOST)
    return Markup(
        '<table class="hd-table" role="table"><caption class="hd-unseen">{}</caption>'
        '<thead role="rowgroup"><tr role="row">{}</tr></thead>'
        '<tbody role="rowgroup">{}</tbody></table>{}'
    ).format(caption, head, body, more if len(rows) > MOST else "")


def filled(
    caption: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], none: str
) -> Markup:
    """The same, or what is said if there are no rows."""
    rows = list(rows)
    return table(caption, columns, rows) if rows else note(none)


def note(text: str) -> Markup:
    return Markup('<p class="hd-note">{}</p>').format(text)


def _row(row: Sequence[Cell], names: Sequence[str], numbers: Sequence[bool]) -> Markup:
    first = Markup('<th role="rowheader" scope="row">{}</th>').format(row[0])
    rest = (
        Markup('<td role="cell" data-label="{}"{}>{}</td>').format(name, _right(number), cell)
        for name, number, cell in zip(names[1:], numbers[1:], row[1:], strict=True)
    )
    return Markup('<tr role="row">{}{}</tr>').format(first, Markup("").join(rest))


def _right(number: bool) -> Markup:
    return Markup(' class="hd-number"') if number else Markup("")


def badge(text: str, tone: str) -> Markup:
    """A word of state. `tone`: good, run, wait, off or bad; the word says the same."""
    return Markup('<span class="hd-badge hd-{}">{}</span>').format(tone, text)


def bar(busy: int, free: int, starting: int) -> Markup:
    """Slots, each a block while they are few."""
    whole = busy + free + starting
    said = ", ".join(
        f"{count} {name}"
        for count, name in ((busy, "busy"), (free, "free"), (starting, "starting"))
        if count
    )
    if not whole:
        return Markup('<span class="hd-slots-said">{}</span>').format("no slots")
    blocks = Markup("").join(
        Markup('<i class="hd-slot-{}" style="flex-grow:{}"></i>').format(kind, width)
        for kind, count in (("busy", busy), ("free", free), ("starting", starting))
        for width in ([1] * count if whole <= FEW else [count] * bool(count))
    )
    return Markup(
        '<span class="hd-slots" aria-hidden="true">{}</span><span class="hd-slots-said">{}</span>'
    ).format(blocks, escape(said))


FEW = 24
"""Slots that are drawn one by one."""
