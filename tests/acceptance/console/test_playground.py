"""The playground: chats that stream, stop and fail; recordings and pictures."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import FilePayload, Locator, Page, expect

from tests.acceptance.conftest import MODEL, RealLlama
from tests.acceptance.console import models
from tests.acceptance.console.asking import new_key
from tests.acceptance.console.browser import PATIENCE, Console, choose
from tests.doubles.recordings import tone

pytestmark = pytest.mark.asyncio(loop_scope="session")
PATH = "/playground"
HTML = "<img src=x onerror=window.harmed=1> **strong** [out](https://a.example) ![p](https://b.example)"

_DROPPED = """() => {
  const files = new DataTransfer();
  files.items.add(new File(["a cat"], "one.png", {type: "image/png"}));
  return files;
}"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def more(console: Console, llama: RealLlama) -> AsyncIterator[None]:
    async with models.served(console, llama):
        yield


async def _playground(console: Console, model: str, key: str = "") -> Page:
    page = await console.page(PATH, key=key)
    await choose(page, "Model", model)
    return page


async def _say(page: Page, text: str) -> Locator:
    """Send a message; its answer."""
    answers = page.locator(".hr-turn:not(.hr-user)")
    before = await answers.count()
    await page.get_by_label("Message").fill(text)
    await page.keyboard.press("Enter")
    return answers.nth(before)


async def test_a_chat_with_a_real_model(console: Console, more: None) -> None:
    page = await _playground(console, MODEL)
    await page.get_by_label("Most tokens").fill("24")
    answer = await _say(page, "What is the capital of France?")
    await answer.get_by_text("TTFT").wait_for()
    said = await answer.inner_text()
    assert "Paris" in said
    for what in ("tokens/s", f"served by\n{models.NODE}", "answer\n", "queue\n"):
        assert what in said
    await page.get_by_text("The same as a command").click()
    code = await page.locator(".hr-code").first.inner_text()
    assert '"max_tokens": 24' in code
    assert f"{console.ingress}/v1/chat/completions" in code
    assert "Bearer $OPENAI_API_KEY" in code
    await console.shoot(page, "playground-chat")
    answer = await _say(page, "And of Italy?")
    await answer.get_by_text("TTFT").wait_for()
    code = await page.locator(".hr-code").first.inner_text()
    assert code.count('"role": "user"') == 2
    assert code.count('"role": "assistant"') == 1


async def test_an_answer_is_shown_as_it_comes_and_can_be_stopped(console: Console) -> None:
    name = "who-stops"
    page = await _playground(
        console, "echo", await new_key(console, name, "inference", "models:read")
    )
    slow = json.dumps({"echo": {"token_ms": 500}})
    await page.get_by_label("Further fields").fill(slow)
    answer = await _say(page, "word " * 200)
    await answer.locator(".hr-answer", has_text="word").wait_for()
    await page.get_by_role("button", name="Stop").click()
    await answer.get_by_text("stopped").wait_for()
    await page.get_by_role("button", name="Send").wait_for()
    # The request is over, and not only its page.
    found = await console.until("/v1/requests", lambda said: bool(_ended(said, name)))
    assert [row["error"] for row in _ended(found, name)] == ["client_gone"]
    # What was said so far belongs to the conversation.
    await page.get_by_label("Further fields").fill("")
    answer = await _say(page, "Go on.")
    await answer.get_by_text("TTFT").wait_for()
    await page.get_by_text("The same as a command").click()
    code = await page.locator(".hr-code").first.inner_text()
    assert code.count('"role": "assistant"') == 1


def _ended(said: dict[str, Any], key: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = said["data"]
    return [row for row in rows if row["key"] == key and row["state"] == "ended"]


async def test_several_files_are_taken_at_once(console: Console, llama: RealLlama) -> None:
    pictures = [
        FilePayload(name=f"{name}.png", mimeType="image/png", buffer=bytes(2**20))
        for name in ("one", "two", "three")
    ]
    async with models.untold(console, llama) as model:
        page = await _playground(console, model)
        chosen = page.locator(".hr-file")
        async with page.expect_file_chooser() as chooser:
            await page.get_by_role("button", name="Add pictures and recordings").click()
        await (await chooser.value).set_files(pictures)
        await expect(chosen).to_have_count(3, timeout=PATIENCE)
        await page.get_by_role("button", name="Leave out one.png").click()
        await expect(chosen).to_have_count(2, timeout=PATIENCE)
        dropped = await page.evaluate_handle(_DROPPED)
        await page.get_by_label("Message").dispatch_event("drop", {"dataTransfer": dropped})
        await expect(chosen).to_have_count(3, timeout=PATIENCE)


async def test_nothing_of_an_answer_is_run_or_loaded(console: Console) -> None:
    page = await _playground(console, "echo")
    answer = await _say(page, HTML)
    await answer.locator("strong").wait_for()
    assert await answer.locator("img").count() == 0
    assert "<img src=x onerror=window.harmed=1>" in await answer.inner_text()
    assert await page.evaluate("window.harmed === undefined")
    links = await answer.locator("a").evaluate_all("(all) => all.map((each) => each.href)")
    assert links == ["https://a.example/"]


async def test_a_refusal_is_said_in_words_with_its_code(console: Console) -> None:
    page = await _playground(console, "echo")
    await page.get_by_label("Temperature").fill("77")
    answer = await _say(page, "Hello")
    problem = await answer.get_by_role("alert").inner_text()
    assert "temperature" in problem
    assert re.search(r"\([a-z_]+\)$", problem)
    await page.get_by_label("Temperature").fill("warm")
    await _say(page, "Hello")
    await page.get_by_text("Temperature: 'warm' is not a number.").wait_for()


async def test_a_recording_is_written_down(console: Console, more: None) -> None:
    page = await _playground(console, models.SPEECH)
    await page.get_by_role("button", name="Write it down").wait_for()
    sound = FilePayload(name="a talk.wav", mimeType="audio/wav", buffer=tone(1.0))
    await page.set_input_files("input[type=file]", [sound])
    await page.get_by_text("a_talk.wav, 31 KiB").wait_for()
    await page.get_by_role("button", name="Write it down").click()
    await page.get_by_text("And so my fellow Americans").wait_for()
    await page.get_by_text("The same as a command").click()
    assert "file=@a_talk.wav" in await page.locator(".hr-code").first.inner_text()
    await console.assert_accessible(page)


async def test_a_picture_is_made(console: Console, more: None) -> None:
    page = await _playground(console, models.PICTURE)
    await page.get_by_label("What it is to show").fill("a red cat")
    await page.get_by_label("Size").fill("64x64")
    await page.get_by_role("button", name="Make it").click()
    picture = page.get_by_role("img", name="Picture: a red cat")
    await picture.wait_for()
    assert await picture.evaluate("(image) => image.naturalWidth") == 64
    await console.assert_accessible(page)
