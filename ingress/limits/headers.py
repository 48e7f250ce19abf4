"""How much of its limits a key has left, as OpenAI's and Anthropic's clients read it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from ingress.limits.clock import SharedClock
from ingress.limits.keeper import Keeper
from schemas.api.base import Api
from schemas.api.messages.answer import API as ANTHROPIC
from schemas.limits import REQUESTS, TOKENS

PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-")
_UNITS = ((3_600_000, "h"), (60_000, "m"))


def told(keepers: Sequence[Keeper], clock: SharedClock, api: Api) -> dict[str, str]:
    """The headers of an answer. If both a key and its account have a limit, that one is told of
    which less is left."""
    found: dict[str, str] = {}
    now = clock.now()
    for meter in (REQUESTS, TOKENS):
        left = [
            (*keeper.share.remaining(meter, now), most)
            for keeper in keepers
            if (most := keeper.share.terms.meters.get(meter)) is not None
        ]
        if not left:
            continue
        remaining, reset, most = min(left)
        if api is ANTHROPIC:
            stamp = datetime.fromtimestamp(clock.calendar(now.earliest + reset), UTC)
            ends = stamp.isoformat(timespec="seconds").replace("+00:00", "Z")
            values = {"limit": f"{most}", "remaining": f"{remaining}", "reset": ends}
            found |= {f"anthropic-ratelimit-{meter}-{name}": v for name, v in values.items()}
        else:
            values = {"limit": f"{most}", "remaining": f"{remaining}", "reset": duration(reset)}
            found |= {f"x-ratelimit-{name}-{meter}": value for name, value in values.items()}
    return found


def duration(ms: int) -> str:
    """As OpenAI writes it, which is how Go writes it: 17ms, 1.5s, 6m0s."""
    if ms < 1000:
        return f"{ms}ms"
    text = ""
    for size, unit in _UNITS:
        if text or ms >= size:
            text, ms = f"{text}{ms // size}{unit}", ms % size
    return f"{text}{ms / 1000:g}s"
