"""The frame of the console's pages, and the way in and out."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path

import aiohttp
import pytest

from deploy import home
from deploy.console import menu
from tests.acceptance.console.browser import PHONE, Console, ready
from tests.acceptance.headrace_up import descendant, headrace

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_each_page_is_there_from_the_navigation(console: Console) -> None:
    page = await console.page()
    for entry in menu.MENU:
        await page.click(f"nav >> text={entry.title}")
        await page.wait_for_url(console.url + entry.path)
        await ready(page)
        assert await page.inner_text("h1.hr-title") == entry.title
        assert await page.locator("[aria-current=page]", has_text=entry.title).count() == 1


async def test_on_a_phone_the_navigation_opens_by_keyboard(console: Console) -> None:
    page = await console.page(width=PHONE)
    link = page.locator("nav >> text=Nodes")
    await page.focus("[aria-label='Open or close the navigation']")
    await page.keyboard.press("Enter")
    await link.wait_for(state="visible")
    await link.click()
    await page.wait_for_url(f"{console.url}/nodes")


async def test_the_colours_that_were_chosen_stay(console: Console) -> None:
    page = await console.page()
    await page.click("[aria-label='Colours: as the system has them']")
    await page.click("[aria-label='Colours: light']")
    await page.wait_for_selector("body.body--dark")
    await page.wait_for_function("document.cookie.includes('headrace_theme=dark')")
    await page.reload()
    await page.wait_for_selector("body.body--dark [aria-label='Colours: dark']")


async def test_a_link_works_once(console: Console) -> None:
    link = console.link()
    page = await (await console.context()).new_page()
    await page.goto(link)
    await page.wait_for_url(f"{console.url}/")
    other = await (await console.context()).new_page()
    await other.goto(link)
    assert "used before" in await other.inner_text("[role=alert]")
    console.forgive("403")


async def test_the_command_prints_a_link(console: Console) -> None:
    said = await asyncio.to_thread(headrace, "console", "link", "--data", console.data)
    assert said.stdout.startswith(f"{console.url}/in/"), said.stderr
    page = await (await console.context()).new_page()
    await page.goto(said.stdout.strip())
    await page.wait_for_url(f"{console.url}/")


async def test_a_key_signs_in_and_a_wrong_one_does_not(console: Console) -> None:
    page = await (await console.context()).new_page()
    await page.goto(console.url)
    await page.wait_for_url(f"{console.url}/sign-in")
    await console.assert_accessible(page)
    await page.fill("#key", "sk-headrace-not-one-of-yours")
    await page.click("button")
    assert "not known" in await page.inner_text("[role=alert]")
    console.forgive("403")
    await page.fill("#key", console.key)
    await page.click("button")
    await page.wait_for_url(f"{console.url}/")
    assert await page.inner_text(".hr-who") == "local"


async def test_who_signs_out_is_out_in_all_tabs(console: Console) -> None:
    context = await console.context()
    first = await context.new_page()
    await first.goto(console.link())
    await first.wait_for_url(f"{console.url}/")
    await ready(first)
    second = await context.new_page()
    await second.goto(f"{console.url}/nodes")
    await ready(second)
    await first.click("[aria-label='Sign out']")
    await first.wait_for_url(f"{console.url}/sign-in")
    await second.wait_for_url(f"{console.url}/sign-in")
    await second.goto(f"{console.url}/nodes")
    await second.wait_for_url(f"{console.url}/sign-in")


async def test_keys_are_in_no_page_cookie_or_log(console: Console) -> None:
    page = await console.page("/keys", key=console.key)
    secret = home.found_console_key(console.data)
    assert secret
    html = await page.content()
    cookies = str(await page.context.cookies())
    logs = "".join(path.read_text() for path in (console.data / "logs").glob("*.log"))
    printed = console.up.text
    for text in (html, cookies, logs):
        assert secret not in text
        assert console.key not in text
    assert secret not in printed
    assert not re.search(r"/in/[\w-]{22}", logs)


async def test_the_cookie_is_for_this_site_alone_and_not_for_scripts(console: Console) -> None:
    page = await console.page()
    (cookie,) = [
        each
        for each in await page.context.cookies()
        if each["name"].startswith("headrace_console_")
    ]
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}, 403),
    ],
)
async def test_strangers_pages_get_nothing(
    console: Console, headers: dict[str, str], status: int
) -> None:
    async with aiohttp.ClientSession() as http:
        for path in ("/", "/sign-in", "/healthz", "/in/x"):
            async with http.get(console.url + path, headers=headers) as answer:
                assert answer.status == status
        async with http.post(f"{console.url}/sign-in", headers=headers, data={"key": "x"}) as said:
            assert said.status in (status, 403)


async def test_a_page_of_another_port_opens_no_socket(console: Console) -> None:
    """Browsers send it our cookie, as it is for the whole host."""
    page = await console.page()
    cookie = "; ".join(f"{c['name']}={c['value']}" for c in await page.context.cookies())
    own = f"{console.url}/_nicegui_ws/socket.io/?EIO=4&transport=websocket&client_id=x"
    async with aiohttp.ClientSession(headers={"Cookie": cookie}) as http:
        for origin in ("http://127.0.0.1:1", "null", ""):
            headers = {"Origin": origin} if origin else {}
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await http.ws_connect(own, headers=headers)
        async with http.ws_connect(own, headers={"Origin": console.url}) as socket:
            assert (await socket.receive()).data.startswith("0{")


async def test_a_console_that_ends_comes_back_and_pages_ask_to_sign_in(console: Console) -> None:
    await _begun_anew(console)
    await ready(await console.page("/nodes"))


async def _begun_anew(console: Console) -> None:
    """Kill the console; behind that there is another one."""
    page = await console.page("/nodes")
    os.kill(descendant(console.up.pid, "deploy", " console "), signal.SIGKILL)
    await page.wait_for_url(f"{console.url}/sign-in")
    console.forgive("")  # of a server that is away browsers complain in many words


async def test_the_page_of_the_ingress_names_the_console(console: Console) -> None:
    page = {"Accept": "text/html"}
    async with aiohttp.ClientSession(headers=page) as http, http.get(console.ingress) as answer:
        assert f'href="{console.url}"' in await answer.text()


async def test_the_process_is_small(console: Console) -> None:
    await _begun_anew(console)  # what other tests had it do is none of its size
    for entry in menu.MENU:
        await ready(await console.page(entry.path))
    pid = descendant(console.up.pid, "deploy", " console ")
    status = Path(f"/proc/{pid}/status").read_text()
    (kilobytes,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
    assert int(kilobytes) < 150_000
