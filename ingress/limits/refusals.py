"""What a client is told whose key or account has reached a limit. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ingress.limits.terms import Refusal
from schemas import metrics
from schemas.errors import HeadraceError, QuotaExceeded, RateLimited
from schemas.limits import MONTHLY_TOKENS, QUEUED, REQUESTS, TOKENS

if TYPE_CHECKING:
    from ingress.limits.keeper import Keeper

KEY, ACCOUNT = "key", "account"
"""Whose limits there are."""
LIMIT = "x-headrace-limit"
"""The header that names the limit: `requests` of a key, `account.tokens`."""
_NO_RETRY = {"x-should-retry": "false"}
"""OpenAI's and Anthropic's clients heed it: a month is too long to try again."""
_HEEDED = 60.0
"""Seconds. OpenAI's and Anthropic's clients pass over a time that is longer, and come at once."""
_UNITS = {REQUESTS: "requests a minute", TOKENS: "tokens a minute"}


def error(refusal: Refusal, keeper: Keeper) -> HeadraceError:
    """Counts it, too."""
    terms, after = keeper.share.terms, refusal.after / 1000
    name = refusal.limit.partition(":")[0]
    metrics.LIMITED.labels(keeper.kind, name).inc()
    told = {LIMIT: name if keeper.kind == KEY else f"{keeper.kind}.{name}"}
    if name in terms.budgets:
        what = "tokens" if name == MONTHLY_TOKENS else "credits"
        why = f"The {keeper.kind}'s limit of {what} a month ({name}) is reached. It begins anew"
        why += " with the next month, UTC; whoever runs this server can raise it."
        return QuotaExceeded(why, retry_after=after, told={**told, **_NO_RETRY})
    # A meter tells up to a 120th more than a minute, so that one who comes then finds room.
    after = _HEEDED if _HEEDED < after <= _HEEDED + 1 else after
    most = terms.meters[name] if name in terms.meters else terms.places(refusal.limit)
    unit = _UNITS.get(
        name, "requests at once in the queue" if name == QUEUED else "requests at once"
    )
    why = f"Rate limit reached: this {keeper.kind} may have {most} {unit} (limit {name!r})."
    why += f" Try again in {math.ceil(after)} s."
    return RateLimited(why, retry_after=after, told=told)
