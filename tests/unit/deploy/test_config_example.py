"""The documented example and the code say the same."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

from schemas.settings import Settings, load, section_of

EXAMPLE = Path(__file__).parents[3] / "deploy" / "config.example.toml"
LINES = EXAMPLE.read_text().splitlines()
WHOLE = "\n".join(re.sub(r"^#(?=[a-z\[])", "", line) for line in LINES)
"""The example with all that is commented out put into force."""
FIELDS = [
    (section, name)
    for section in Settings.model_fields
    for name in section_of(Settings, section).model_fields
]

EXAMPLES = {
    *{("keys", "limits"), ("keys", "expires")},
    *{("engines", "url"), ("route", "model"), ("route", "providers")},
    ("worker", "labels"),
    *{("providers", "url"), ("providers", "key_env"), ("prices", "date"), ("prices", "images")},
}
"""Settings that are shown with a value that is not their default."""


def table(found: dict[str, Any], section: str) -> dict[str, Any]:
    value = found[section]
    first: dict[str, Any] = value[0] if isinstance(value, list) else value
    return first


def prose(section: str, name: str) -> str:
    """The comment above a setting, or above the settings right before it."""
    at = next(
        number
        for number in range(LINES.index(heading(section)), len(LINES))
        if LINES[number].startswith(f"#{name} =")
    )
    above: list[str] = []
    for line in reversed(LINES[:at]):
        if not line.startswith("#") or line.startswith(("#[", "# ──")):
            break
        if line.startswith("# "):
            above.insert(0, line.removeprefix("# "))
    return " ".join(above)


def heading(section: str) -> str:
    return next(line for line in LINES if line in (f"[{section}]", f"#[[{section}]]"))


def bounds(schema: Any) -> Iterator[float]:
    """Every minimum and maximum in a field's JSON schema."""
    if isinstance(schema, dict):
        for name, value in schema.items():
            if re.match("(exclusive)?(min|max)(imum|Length)", name, re.IGNORECASE):
                yield value
            yield from bounds(value)
    elif isinstance(schema, list):
        for each in schema:
            yield from bounds(each)


def test_as_it_is_it_changes_nothing() -> None:
    assert load(EXAMPLE).model_dump() == load().model_dump()


def test_put_into_force_it_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "all.toml"
    path.write_text(WHOLE)
    assert load(path).engines[0].url == "http://127.0.0.1:8081"


def test_it_names_no_setting_that_is_not_there() -> None:
    found = tomllib.loads(WHOLE)
    assert {(section, name) for section in found for name in table(found, section)} == set(FIELDS)


def test_the_default_is_the_true_one(subtests: pytest.Subtests) -> None:
    for section, name in FIELDS:
        with subtests.test(f"[{section}] {name}"):
            field = section_of(Settings, section).model_fields[name]
            shown = table(tomllib.loads(WHOLE), section)[name]
            default: Any = field.default
            if isinstance(default, SecretStr):
                default = default.get_secret_value()
            usual = section_of(Settings, "routes").model_fields
            if section == "route" and default is None and name in usual:
                default = usual[name].default
            if default in (PydanticUndefined, None) or (section, name) in EXAMPLES:
                continue  # an example: valid, as another test says
            if isinstance(default, Decimal):
                default = float(default)
            if isinstance(default, tuple):
                default = list(default)
            assert (shown, type(shown)) == (default, type(default))


def test_its_bounds_are_told(subtests: pytest.Subtests) -> None:
    for section, name in FIELDS:
        with subtests.test(f"[{section}] {name}"):
            said = prose(section, name)
            assert len(said) > 10
            schema = section_of(Settings, section).model_json_schema()["properties"][name]
            numbers = {float(number) for number in re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?", said)}
            assert set(bounds(schema)) <= numbers, said


def test_its_choices_are_told(subtests: pytest.Subtests) -> None:
    for section, name in FIELDS:
        with subtests.test(f"[{section}] {name}"):
            model: type[BaseModel] = section_of(Settings, section)
            choices = model.model_json_schema()["properties"][name].get("enum", [])
            assert [each for each in choices if f'"{each}"' not in prose(section, name)] == []
