"""What a webhook gets, and where its secret comes from."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import openai
import orjson
import pytest

from ingress import webhook
from schemas.alerts import Alert, Budget
from schemas.settings import Alerts, SettingsError

CREDITS = Alert(Budget("credits", "acme", "", "grant 3", 8_500_000, 10_000_000, "micro"), 80, 1e9)
TOKENS = Alert(Budget("monthly_tokens", "acme", "k", "2026-11", 1100, 1000, "tokens"), 100, 1e9)


def settings(**fields: object) -> Alerts:
    return Alerts.model_validate(fields)


def test_a_secret_is_text_or_base64_here_or_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("from a file\n")
    encoded = f"whsec_{base64.b64encode(b'sixteen letters!').decode()}"
    assert webhook.secret_of(settings()) == b""
    assert webhook.secret_of(settings(secret="as it is")) == b"as it is"
    assert webhook.secret_of(settings(secret=encoded)) == b"sixteen letters!"
    assert webhook.secret_of(settings(secret_file=str(path))) == b"from a file"


def test_a_secret_that_is_none_is_refused_and_not_shown(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    for fields in (
        {"secret": "whsec_no base64"},
        {"secret_file": str(empty)},
        {"secret_file": str(tmp_path / "none")},
    ):
        with pytest.raises(SettingsError, match=r"\[alerts\] secret") as caught:
            webhook.secret_of(settings(**fields))
        assert "no base64" not in str(caught.value).removesuffix("there is no base64")


@pytest.mark.parametrize("secret", ["plain text", f"whsec_{base64.b64encode(b'x' * 24).decode()}"])
def test_openai_s_client_verifies_a_signature(secret: str) -> None:
    body, at = webhook.document(CREDITS, "EUR"), int(time.time())
    signed = webhook.signature(webhook.secret_of(settings(secret=secret)), "id-1", at, body)
    headers = {"webhook-id": "id-1", "webhook-timestamp": str(at), "webhook-signature": signed}
    with openai.OpenAI(api_key="x") as client:
        client.webhooks.verify_signature(body, headers, secret=secret)
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.verify_signature(body + b" ", headers, secret=secret)


def test_what_is_sent_says_all() -> None:
    said = orjson.loads(webhook.document(CREDITS, "EUR"))
    assert said == {
        "type": "budget.threshold_reached",
        "timestamp": "2001-09-09T01:46:40+00:00",
        "text": ("Headrace: the account 'acme' has used 80 % of its credits (8.50 of 10.00 EUR)."),
        "data": {
            "budget": "credits",
            "account": "acme",
            "key": None,
            "threshold": 80,
            "period": "grant 3",
            "used": 8_500_000,
            "of": 10_000_000,
            "left": 1_500_000,
            "unit": "micro",
            "currency": "EUR",
        },
    }
    said = orjson.loads(webhook.document(TOKENS, "EUR"))
    assert said["text"] == (
        "Headrace: the key 'k' of the account 'acme' has used 100 % of its monthly tokens "
        "(1100 of 1000 tokens)."
    )
    assert (said["data"]["left"], said["data"]["currency"]) == (0, None)
