"""Keys: where they are found, and where they are not."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from fallback.providers.secret import KeyMissing, Secret, read
from schemas.settings import Provider

KEY = "sk-proj-abcdefghijklmnop-9876"


def config(**more: str) -> Provider:
    return Provider.model_validate({"name": "cloud", "kind": "openai", **more})


def test_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUD_KEY", f" {KEY}\n")
    assert read(config(key_env="CLOUD_KEY")).headers("") == {"Authorization": f"Bearer {KEY}"}


def test_of_a_file(tmp_path: Path) -> None:
    structlog.reset_defaults()
    path = tmp_path / "key"
    path.write_text(KEY + "\n")
    for mode, warnings in ((0o600, 0), (0o644, 1)):
        path.chmod(mode)
        with capture_logs() as logs:
            assert read(config(key_file=str(path))).headers("x-api-key") == {"x-api-key": KEY}
        assert len(logs) == warnings
        assert KEY not in str(logs)


def test_of_a_file_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "key").write_text(KEY)
    assert read(config(key_file="~/key")).headers("")["Authorization"].endswith(KEY)


def test_a_file_that_cannot_be_read_is_not_called_missing(tmp_path: Path) -> None:
    with pytest.raises(KeyMissing, match="cannot be read: Is a directory"):
        read(config(key_file=str(tmp_path)))


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", "schlüssel".encode(), b"\xff\xfe"])
def test_files_without_a_key(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(KeyMissing, match="cloud has no key") as caught:
        read(config(key_file=str(path)))
    assert "words" not in str(caught.value)


def test_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CLOUD_KEY", raising=False)
    with pytest.raises(KeyMissing, match="CLOUD_KEY"):
        read(config(key_env="CLOUD_KEY"))
    with pytest.raises(KeyMissing, match="none-here"):
        read(config(key_file=str(tmp_path / "none-here")))
    assert not read(config())


def test_it_is_never_shown() -> None:
    secret = Secret(KEY)
    assert KEY not in repr(secret)
    assert KEY not in str(secret)
    assert not hasattr(secret, "__dict__")


@pytest.mark.parametrize(
    "said",
    [
        "Rate limit reached for gpt-4o in organization org-AbCdEf123456 on tokens per min",
        "Rate limit reached in organization `org_01AbCdEf123456` service tier `on_demand`",
        "Project `proj_AbCdEf123456` does not have access",
        "Consumer 'project_number:123456789012' has been suspended",
        "API has not been used in project 123456 before or it is disabled",
        "Permission denied on resource projects/AbCdEf123456",
        f"Could not route to /accounts/{'123456ab' * 4}/ai/v1",
    ],
)
def test_nor_is_whose_account_it_is(said: str) -> None:
    found = Secret(KEY).scrub(said)
    assert "123456" not in found
    assert "[account]" in found


@pytest.mark.parametrize(
    "said", ["an org-chart of the project 12", "the projects of accounts/none", "org: no"]
)
def test_other_words_stay(said: str) -> None:
    assert Secret(KEY).scrub(said) == said


@pytest.mark.parametrize(
    "said",
    [
        f"Incorrect API key provided: {KEY}. Look here.",
        "Incorrect API key provided: sk-proj-*************9876. Look here.",
        "Incorrect API key provided: sk-proj-abc...9876. Look here.",
        "Incorrect API key provided: ****9876. Look here.",
        "Incorrect API key provided: sk-other_key-of-somebody-else. Look here.",
    ],
)
def test_it_is_taken_out_of_what_is_said(said: str) -> None:
    found = Secret(KEY).scrub(said)
    assert "9876" not in found
    assert "abc" not in found
    assert "[key]" in found
    assert found.endswith("Look here.")


@given(st.text(), st.text(max_size=30))
def test_wherever_it_stands(before: str, after: str) -> None:
    assert KEY not in Secret(KEY).scrub(before + KEY + after)


def test_scrubbing_is_quick() -> None:
    began = time.process_time()
    Secret(KEY).scrub("a" * 65_536)
    Secret(KEY).scrub("*" * 65_536)
    assert time.process_time() - began < 1
