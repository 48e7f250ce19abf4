"""Stacked bars by day, as SVG: the colours of its texts are those of the page, so it is read in
light and dark. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from html import escape

from deploy.console.pages.plots import nice

COLOURS = ("#2f7ebc", "#d9822b", "#3a9d5d", "#b0478f", "#8a6d3b", "#5b6abf", "#c0392b", "#7f8c8d")
"""Of the parts of a bar, in their order; each has 3:1 against white and against a dark page."""
MOST = len(COLOURS)
"""Parts that a plot tells apart; the smallest are one together beyond that."""
OTHERS = "others"
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 720, 220, 56, 24, 12

Series = Mapping[str, Mapping[str, float]]
"""By part: the sum of each day (``2026-11-30``)."""


def merged(series: Series) -> Series:
    """At most `MOST` parts, the largest first."""
    ordered = sorted(series, key=lambda name: (name == OTHERS, -sum(series[name].values()), name))
    if len(ordered) <= MOST:
        return {name: series[name] for name in ordered}
    rest: dict[str, float] = {}
    for name in ordered[MOST - 1 :]:
        for day, found in series[name].items():
            rest[day] = rest.get(day, 0) + found
    return {**{name: series[name] for name in ordered[: MOST - 1]}, OTHERS: rest}


def days(first: str, last: str) -> list[str]:
    """Each day from `first` to `last`, both included."""
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    return [(start + timedelta(days=n)).isoformat() for n in range((end - start).days + 1)]


def drawn(series: Series, shown: Sequence[str], title: str, said: Callable[[float], str]) -> str:
    """`series`: as `merged` has it. `shown`: the days, in their order. `title`: what is plotted.
    `said`: a number in words."""
    tops = [sum(each.get(day, 0) for each in series.values()) for day in shown]
    most = nice(max(tops, default=0))
    step = (_WIDTH - _LEFT) / max(1, len(shown))
    parts = [*_scale(most, said), *_dates(shown, step)]
    for number, day in enumerate(shown):
        parts += _bar(series, day, _LEFT + number * step, step, most, said)
    return (
        f'<svg class="hr-plot" role="img" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'aria-label="{escape(summary(series, shown, title, said))}">{"".join(parts)}</svg>'
    )


def summary(series: Series, shown: Sequence[str], title: str, said: Callable[[float], str]) -> str:
    """The plot, for who cannot see it."""
    whole = {name: sum(each.values()) for name, each in series.items()}
    if not shown or not any(whole.values()):
        return f"{title}: nothing."
    told = ", ".join(f"{name} {said(found)}" for name, found in whole.items())
    return f"{title}, {shown[0]} to {shown[-1]}: {said(sum(whole.values()))} in all; {told}."


def legend(series: Series, said: Callable[[float], str]) -> str:
    """The parts with their colours and sums, as HTML."""
    items = (
        f'<li><span class="hr-swatch" style="background:{colour}"></span>'
        f"{escape(name)} <b>{escape(said(sum(series[name].values())))}</b></li>"
        for name, colour in zip(series, COLOURS, strict=False)
    )
    return f'<ul class="hr-legend">{"".join(items)}</ul>'


def _bar(
    series: Series, day: str, x: float, step: float, most: float, said: Callable[[float], str]
) -> list[str]:
    parts, y = [], float(_HEIGHT - _BOTTOM)
    wide = min(48.0, max(1.0, step * 0.8))
    for (name, found), colour in zip(series.items(), COLOURS, strict=False):
        if amount := found.get(day, 0):
            high = amount / most * (_HEIGHT - _BOTTOM - _TOP)
            y -= high
            told = escape(f"{day}: {name} {said(amount)}")
            parts.append(
                f'<rect x="{x + (step - wide) / 2:.1f}" y="{y:.1f}" width="{wide:.1f}" '
                f'height="{high:.1f}" fill="{colour}"><title>{told}</title></rect>'
            )
    return parts


def _scale(most: float, said: Callable[[float], str]) -> list[str]:
    found = []
    for part in (0.0, 0.5, 1.0):
        y = _HEIGHT - _BOTTOM - part * (_HEIGHT - _BOTTOM - _TOP)
        found.append(
            f'<line class="hr-scale" x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{escape(said(most * part))}</text>"
        )
    return found


def _dates(shown: Sequence[str], step: float) -> list[str]:
    """As many days as there is room for."""
    each = max(1, -(-len(shown) // max(1, int((_WIDTH - _LEFT) / 90))))
    return [
        f'<text x="{_LEFT + (number + 0.5) * step:.1f}" y="{_HEIGHT - 6}" text-anchor="middle">'
        f"{escape(day[5:])}</text>"
        for number, day in enumerate(shown)
        if number % each == 0
    ]
