from __future__ import annotations

from fallback.providers.prompt import prompt_tokens


def test_texts_are_guessed_by_their_letters_and_tokens_are_counted() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9000}}
    parts = [{"type": "text", "text": "x" * 40}, picture]
    assert 200 < prompt_tokens({"messages": [{"role": "user", "content": parts}]}) < 300
    assert prompt_tokens({"input": [[1, 2, 3], [4]]}) == 4
    assert prompt_tokens({"input": [1, 2, 3]}) == 3
    assert prompt_tokens({"input": "x" * 8, "instructions": "y" * 8, "user": "z" * 8}) == 4
