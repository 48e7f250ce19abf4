from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import labels
from schemas.settings import Settings, SettingsError, load


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("gpu=4090", ("gpu=4090",)),
        (" zone=home , gpu=4090,gpu=4090", ("gpu=4090", "zone=home")),
        ("m=llama3.2:3b", ("m=llama3.2:3b",)),
        ("gpu", None),
        ("gpu=", None),
        ("=4090", None),
        ("a=b=c", None),
        ("gpu=4090,", None),
        ("", None),
        ("a=" + 64 * "x", None),
        (",".join(f"a{number}=1" for number in range(33)), None),
    ],
)
def test_a_list_of_labels(text: str, found: tuple[str, ...] | None) -> None:
    assert labels.parse(text) == found


@given(st.text())
def test_whatever_is_asked_for_is_a_list_of_labels_or_none(text: str) -> None:
    found = labels.parse(text)
    assert found is None or labels.parse(",".join(found)) == found


def test_labels_of_the_configuration_may_be_numbers() -> None:
    config = Settings.model_validate({"worker": {"labels": {"zone": "home", "gpu": 4090}}})
    assert config.worker.card_labels == ("gpu=4090", "zone=home")


@pytest.mark.parametrize("said", [{"a b": "c"}, {"gpu": ""}, {"gpu": "a,b"}, {"gpu": True}])
def test_what_nobody_could_ask_for_is_refused(
    said: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match=r"worker\.labels"):
        load(flags={"worker": {"labels": said}})
