"""A key as the page shows it and as its form changes it: texts of fields, and what is to be sent of
them. The ingress checks what is said, and names the field that is wrong. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ingress.keys.pages import CONFIGURATION, limits_text
from schemas.keys import SCOPES

Page = Mapping[str, Any]
"""A key as ``GET /admin/keys`` has it."""
Form = Mapping[str, Any]
"""What the form's fields say: texts, flags and lists of texts, by `FIELDS`."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A field for a number; without one there is no limit. `name`: as in `schemas.keys.Limits`."""

    name: str
    title: str
    hint: str


LIMITS = (
    Limit("requests", "Requests a minute", "in any 60 seconds"),
    Limit("tokens", "Tokens a minute", "prompt and answer, in any 60 seconds"),
    Limit("concurrent", "Requests at once", "those that wait included"),
    Limit("queued", "Requests that wait", "for one model"),
    Limit("max_tokens", "Tokens of an answer", ""),
    Limit("monthly_tokens", "Tokens a month", "a calendar month, UTC"),
    Limit("monthly_credits", "Credits a month", "a calendar month, UTC"),
)
LANES: Mapping[str, str] = {"i": "interactive", "b": "batch: after all others"}
_LISTS = ("scopes", "models", "nodes")
_PLAIN = ("account", "note", "lane", "local", "lenient")
FIELDS = (*_PLAIN, *_LISTS, "expires", "weight", *(limit.name for limit in LIMITS))


def fresh() -> dict[str, Any]:
    """The form of a key that is to be made."""
    return {
        **dict.fromkeys(FIELDS, ""),
        "account": "default",
        "scopes": list(SCOPES[:2]),
        "models": [],
        "nodes": [],
        "lane": "i",
        "local": False,
        "lenient": False,
    }


def form(page: Page) -> dict[str, Any]:
    """The form of a key that is there."""
    limits = page["limits"]
    return {
        **{name: page[name] for name in _PLAIN},
        **{name: list(page[name]) for name in _LISTS},
        "expires": moment(page["expires"]).replace(" ", "T") + "Z" if page["expires"] else "",
        "weight": number(page["weight"]) if page["weight"] != 1 else "",
        **{limit.name: number(limits[limit.name]) for limit in LIMITS},
    }


def said(now: Form, before: Form) -> dict[str, Any]:
    """What is to be sent for a form that was changed: the fields that differ alone. A field that
    was emptied is null, which means the default."""
    found: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    for name in FIELDS:
        value, old = _plain(now[name]), _plain(before[name])
        if value == old:
            continue
        into = limits if any(limit.name == name for limit in LIMITS) else found
        into[name] = None if value == "" and name != "note" else value
    return {**found, **({"limits": limits} if limits else {})}


def row(page: Page) -> dict[str, Any]:
    """What the table of keys shows."""
    return {
        "name": page["name"],
        "account": page["account"],
        "state": state(page),
        "scopes": " ".join(page["scopes"]),
        "models": " ".join(page["models"]) or "all",
        "limits": limits_text(page["limits"]) or "none",
        "expires": moment(page["expires"]) if page["expires"] else "never",
        "note": page["note"],
        "live": page["source"] != CONFIGURATION and not page["revoked"],
    }


def state(page: Page) -> str:
    if page["revoked"]:
        return f"revoked {moment(page['revoked'])}"
    if page["source"] == CONFIGURATION:
        return "of the configuration"
    return "good" if page["secrets"] == 1 else f"good, {page['secrets']} secrets"


def used(page: Page) -> list[tuple[str, str]]:
    """(limit, what is used of it), as far as that is told."""
    titles = {limit.name: limit.title for limit in LIMITS}
    told = page.get("used")
    found = []
    for name, amount in (told if isinstance(told, Mapping) else {}).items():
        most = page["limits"].get(name)
        of = f" of {number(most)}" if most is not None else ""
        found.append((titles.get(str(name), str(name)), f"{number(amount)}{of}"))
    return found


def moment(at: float) -> str:
    """A moment (Unix seconds) as UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def number(found: Any) -> str:
    if found is None:
        return ""
    if isinstance(found, float):
        return f"{found:.6f}".rstrip("0").rstrip(".")
    return str(found)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list | tuple):
        return [each.strip() for each in value if each.strip()]
    return "" if value is None else value


def facts(page: Page) -> list[tuple[str, str]]:
    """(what, is) of the key that asks, as ``GET /v1/key`` tells it."""
    own = page["of_account"]
    return [
        ("name", str(page["name"])),
        ("account", str(page["account"])),
        ("scopes", " ".join(page["scopes"])),
        ("models", " ".join(page["models"]) or "all"),
        ("nodes", " ".join(page["nodes"]) or "all"),
        ("limits", limits_text(page["limits"]) or "none"),
        ("limits of the account", limits_text(own["limits"]) or "none"),
        ("expires (UTC)", moment(page["expires"]) if page["expires"] else "never"),
        ("lane", LANES[page["lane"]]),
        ("providers", "never" if page["local"] else "as the routes have it"),
    ]
