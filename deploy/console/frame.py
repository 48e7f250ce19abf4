"""What all pages have around them: header, navigation, light or dark, what is away, and the way
out. `page` makes one of a `build(session)`; `every` keeps a part of one up to date."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import background_tasks, context, ui

from deploy.console import parts
from deploy.console.edge import EdgeFault
from deploy.console.menu import MENU, Entry
from deploy.console.session import Session

SESSION = "headrace.session"
"""Where the scope of a request has its session."""
SIGN_OUT = "headrace.sign_out"
"""Where it has what ends that."""
THEME = "headrace_theme"
"""The cookie with the choice of light or dark; it is no secret."""
_AWAY = 2.0
"""Seconds between two looks at what is away."""
_THEMES: dict[str, tuple[bool | None, str, str]] = {
    "auto": (None, "contrast", "Colours: as the system has them"),
    "light": (False, "light_mode", "Colours: light"),
    "dark": (True, "dark_mode", "Colours: dark"),
}

_SIGNED_OUT = """
setInterval(async () => {
  if (!window.socket || window.socket.connected) return;
  const asked = {redirect: 'manual', headers: {accept: 'text/html'}, cache: 'no-store'};
  const said = await fetch(location.pathname, asked).catch(() => null);
  if (said && said.type === 'opaqueredirect') location.assign('/sign-in');
}, 3000);
"""
"""A page whose console was started anew finds no session there: it goes where one signs in, and
does not try for ever to connect."""

Build = Callable[[Session], Awaitable[None] | None]


def page(path: str, title: str) -> Callable[[Build], Build]:
    """Make a page of a function that builds it within the frame. A coroutine may take its time: the
    page is there meanwhile."""

    def made(build: Build) -> Build:
        async def show() -> None:
            client = context.client
            session: Session = client.request.scope[SESSION]
            main = _around(session, path, title, client.request.scope[SIGN_OUT])
            with main:
                if (building := build(session)) is not None:
                    background_tasks.create(_built(building, main), name=path)

        ui.page(path, title=f"{title} · Headrace", reconnect_timeout=10.0)(show)
        return build

    return made


async def _built(building: Awaitable[None], main: ui.element) -> None:
    """Each task of NiceGUI has to be told anew what it builds in."""
    with main:
        try:
            await building
        except EdgeFault as fault:
            parts.problem(fault.told)


def every(seconds: float, work: Callable[[], Any]) -> ui.timer:
    """Call `work`, which may be a coroutine function, now and each so many seconds, while the page
    is open in a tab that is seen."""
    client = context.client

    async def turn() -> None:
        if not client.storage.get("hidden"):
            result = work()
            if asyncio.iscoroutine(result):
                await result

    return ui.timer(seconds, turn)


def _around(session: Session, path: str, title: str, sign_out: Callable[[], None]) -> ui.element:
    """All that is around a page's own; the element which that is put into."""
    _notice_hiding()
    ui.colors(primary="#0b5c8a", secondary="#365a6b", positive="#1d7a46", negative="#b3261e")
    ui.html('<a class="hr-skip" href="#main">Skip to the page</a>', sanitize=False)
    with ui.left_drawer(value=None, bordered=True).classes("hr-drawer") as drawer:
        drawer.props("breakpoint=1023 width=232")
        with ui.element("nav").props('aria-label="Pages"'):
            for entry in MENU:
                _link(entry, entry.path == path)
    with ui.header().classes("hr-header"):
        menu = ui.button(icon="menu", on_click=drawer.toggle).props("flat round dense color=white")
        menu.classes("hr-menu").props('aria-label="Open or close the navigation"')
        ui.label("Headrace").classes("hr-brand")
        ui.space()
        ui.label(session.name).classes("hr-who").props('title="The key that has signed in"')
        _theme()
        out = ui.button(icon="logout", on_click=sign_out).props("flat round dense color=white")
        out.props('aria-label="Sign out"').tooltip("Sign out")
    _banner(session)
    with ui.element("div").props("id=main tabindex=-1").classes("hr-main") as main:  # in its <main>
        ui.html(title, sanitize=False, tag="h1").classes("hr-title")
    return main


def _link(entry: Entry, here: bool) -> None:
    link = ui.element("a").props(f'href="{entry.path}"').classes("hr-link")
    if here:
        link.props('aria-current="page"')
    with link:
        ui.icon(entry.icon).props('aria-hidden="true"')
        ui.label(entry.title)


def _banner(session: Session) -> None:
    """What is away, for as long as it is."""
    with ui.element("div").classes("hr-banner").props('role="status"') as banner:
        text = ui.label()
    banner.set_visibility(False)

    def look() -> None:
        away = [session.edge.away] if session.edge.away else []
        if session.admin and session.feed.away:
            away.append(f"the broker is away: {session.feed.away}")
        said = "; ".join(away)
        if said != text.text:
            text.set_text(said)
            banner.set_visibility(bool(said))

    look()
    every(_AWAY, look)


def _theme() -> None:
    chosen = context.client.request.cookies.get(THEME, "auto")
    state = {"now": chosen if chosen in _THEMES else "auto"}
    dark = ui.dark_mode(_THEMES[state["now"]][0])
    button = ui.button().props("flat round dense color=white")

    def show() -> None:
        value, icon, said = _THEMES[state["now"]]
        dark.value = value
        button.props(f'icon={icon} aria-label="{said}"')

    def turn() -> None:
        names = list(_THEMES)
        state["now"] = names[(names.index(state["now"]) + 1) % len(names)]
        show()
        kept = f"{THEME}={state['now']};path=/;max-age=31536000;samesite=strict"
        ui.run_javascript(f"document.cookie = '{kept}'")

    button.on_click(turn)
    show()


def _notice_hiding() -> None:
    """Know when the tab is not seen: `every` rests then."""
    client = context.client

    def heard(event: Any) -> None:
        client.storage["hidden"] = bool(event.args)

    ui.on("hr-hidden", heard)
    ui.add_head_html(
        "<script>document.addEventListener('visibilitychange',"
        f"() => emitEvent('hr-hidden', document.hidden));{_SIGNED_OUT}</script>"
    )
