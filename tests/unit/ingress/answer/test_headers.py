from __future__ import annotations

from ingress.answer import headers

NODE = {"x-headrace-served-by": "node:a", "x-headrace-cost": "0"}


def paid(amount: str, by: str = "provider:p") -> dict[str, str]:
    return {"x-headrace-served-by": by, "x-headrace-cost": f"{amount} USD", "x-request-id": "1"}


def test_what_several_cost_is_summed_up_and_everybody_is_named_once() -> None:
    assert headers.joined(
        [paid("0.000012"), NODE, paid("0.000030"), paid("1.5", "provider:q")]
    ) == {
        "x-headrace-served-by": "provider:p, node:a, provider:q",
        "x-headrace-cost": "1.500042 USD",
    }
    assert headers.joined([NODE, NODE]) == NODE
    assert headers.joined([{}, {"content-type": "x"}]) == {}
