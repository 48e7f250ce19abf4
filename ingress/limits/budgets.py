"""Says that the budget of a month runs out: to whoever hears alerts."""

from __future__ import annotations

from ingress.limits.keeper import Keeper
from ingress.limits.refusals import KEY
from ingress.limits.terms import Moment
from schemas import alerts
from schemas.alerts import Budget
from schemas.jetstream.alarm import Alarm
from schemas.limits import MONTHLY_TOKENS


def look(alarm: Alarm, keeper: Keeper, now: Moment) -> None:
    """Compare what was used of the month's limits with the thresholds. Never waits."""
    year, month = divmod(now.month, 12)
    period = f"{year:04}-{month + 1:02}"
    key = keeper.name if keeper.kind == KEY else ""
    for name, most in keeper.share.terms.budgets.items():
        used = keeper.share.used_of_month(name, now)
        unit = alerts.TOKENS if name == MONTHLY_TOKENS else alerts.MICRO
        alarm.note(Budget(name, keeper.account, key, period, used, most, unit))
