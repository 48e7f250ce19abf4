"""Lines over the last hour, as SVG with a text that says the same. Pure.

The drawing has no text: it is stretched to the width that there is, and words stand around it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from deploy.console.history import Point
from deploy.console.pages import rows

WIDTH, HEIGHT = 600, 120
RECENT = 4
"""Points that are now."""
_MARKS = (0.0, 0.5, 1.0)
"""Parts of the height with a line across."""


@dataclass(frozen=True, slots=True)
class Line:
    """`name`: as the legend has it; `values`: one for each point, None where there is none."""

    name: str
    values: Sequence[float | None]


def plot(
    title: str, points: Sequence[Point], lines: Sequence[Line], say: Callable[[float], str]
) -> Markup:
    """`say`: a value in words. All `points` are as long as another; the last one ends now."""
    top = nice(max((v for line in lines for v in line.values if v is not None), default=0.0))
    legend = Markup("").join(
        Markup('<span class="hd-key hd-line-{}">{}</span>').format(number, line.name)
        for number, line in enumerate(lines)
        if len(lines) > 1
    )
    paths = Markup("").join(
        Markup(
            '<path class="hd-line-{0}" d="{1}"/><path class="hd-dots hd-line-{0}" d="{2}"/>'
        ).format(number, *_paths(line.values, top))
        for number, line in enumerate(lines)
    )
    grid = Markup("").join(
        Markup('<path class="hd-grid" d="M0 {0:.0f}H{1}"/>').format(HEIGHT * part, WIDTH)
        for part in _MARKS
    )
    return Markup(
        '<figure class="hd-plot"><figcaption><b>{}</b><span>{}</span>{}</figcaption>'
        '<div class="hd-plot-box"><span class="hd-top" aria-hidden="true">{}</span>'
        '<svg role="img" aria-label="{}" viewBox="0 -4 {} {}" preserveAspectRatio="none">'
        '{}{}{}</svg></div><div class="hd-hour" aria-hidden="true"><span>1 h ago</span>'
        "<span>30 min</span><span>now</span></div></figure>"
    ).format(
        title,
        _now(lines, say),
        legend,
        say(top),
        summary(title, points, lines, say),
        *(WIDTH, HEIGHT + 8),
        grid,
        paths,
        _hints(points, lines, say),
    )


def _now(lines: Sequence[Line], say: Callable[[float], str]) -> str:
    """What was last, of what ended in the last minutes."""
    last = [value for value in lines[0].values[-RECENT:] if value is not None]
    return f"now {say(last[-1])}" if last else ""


def summary(
    title: str, points: Sequence[Point], lines: Sequence[Line], say: Callable[[float], str]
) -> str:
    """The plot, for who cannot see it."""
    parts = [f"{title}, over the last hour"]
    for line in lines:
        known = [(value, n) for n, value in enumerate(line.values) if value is not None]
        if not known or not any(value for value, _ in known):
            parts.append(f"{line.name}: nothing yet")
            continue
        highest, where = max(known)
        parts.append(
            f"{line.name}: last {say(known[-1][0])}, "
            f"highest {say(highest)} {ago(len(points) - where, points)}"
        )
    return "; ".join(parts)


def ago(back: int, points: Sequence[Point]) -> str:
    """When the point began that is so many places before the end."""
    step = points[1].at - points[0].at if len(points) > 1 else 0.0
    return f"{max(1, round(back * step / 60))} min ago"


def nice(most: float) -> float:
    """A round number that is not below `most`: 1, 2 or 5 times a power of ten."""
    if most <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= most * (1 - 1e-9))


def _paths(values: Sequence[float | None], top: float) -> tuple[str, str]:
    """A line through the values, with gaps where there are none; and those that stand alone."""
    wide = WIDTH / max(1, len(values) - 1)
    line, dots = list[str](), list[str]()
    for number, value in enumerate(values):
        if value is None:
            continue
        place = f"{number * wide:.1f} {HEIGHT * (1 - value / top):.1f}"
        before, after = (_at(values, n) is not None for n in (number - 1, number + 1))
        if before or after:
            line.append(f"L{place}" if before else f"M{place}")
        else:
            dots.append(f"M{place}h0")
    return "".join(line), "".join(dots)


def _at(values: Sequence[float | None], place: int) -> float | None:
    return values[place] if 0 <= place < len(values) else None


def _hints(points: Sequence[Point], lines: Sequence[Line], say: Callable[[float], str]) -> Markup:
    """What a pointer is told of the place where it is."""
    wide = WIDTH / max(1, len(points))
    return Markup("").join(
        Markup(
            '<rect class="hd-hint" x="{:.1f}" width="{:.1f}" y="0" height="{}">'
            "<title>{}</title></rect>"
        ).format(
            number * wide, wide, HEIGHT, f"{ago(len(points) - number, points)}: {', '.join(said)}"
        )
        for number in range(len(points))
        if (
            said := [
                f"{line.name} {say(value)}"
                for line in lines
                if (value := line.values[number]) is not None and (value or len(lines) > 1)
            ]
        )
    )


def per_second(value: float) -> str:
    return f"{value:.3g} tokens/s"


def of_rate(points: Sequence[Point]) -> list[Line]:
    return [Line("tokens/s", [point.rate for point in points])]


def of_ttft(points: Sequence[Point]) -> list[Line]:
    return [
        Line("p50", [point.ttft_p50 for point in points]),
        Line("p95", [point.ttft_p95 for point in points]),
    ]


def of_wait(points: Sequence[Point]) -> list[Line]:
    return [
        Line("p50", [point.wait_p50 for point in points]),
        Line("p95", [point.wait_p95 for point in points]),
    ]


def figures(points: Sequence[Point]) -> list[tuple[str, ...]]:
    """The same as rows of a table, the newest first, without what is empty."""
    return [
        (
            ago(len(points) - number, points),
            str(point.ended),
            f"{point.rate:.3g}",
            *map(rows.seconds, (point.ttft_p50, point.ttft_p95, point.wait_p50, point.wait_p95)),
        )
        for number, point in reversed(list(enumerate(points)))
        if point.ended or point.rate
    ]


COLUMNS = (
    *("begun", ">requests", ">tokens/s", ">first token p50", ">first token p95"),
    *(">wait p50", ">wait p95"),
)
"""Of `figures`."""
