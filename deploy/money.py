"""Amounts of money as people read them. Pure."""

from __future__ import annotations

from fallback.credits.entries import MICRO


def decimal(amount: int) -> str:
    """``12.50``, ``0.000001``: two decimals, or more if the amount has more."""
    whole, rest = divmod(abs(amount), MICRO)
    digits = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if amount < 0 else ''}{whole}.{digits}"
