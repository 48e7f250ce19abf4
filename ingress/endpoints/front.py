"""``/`` for people who open the address in a browser: what this is, and whether it is well.

The page is one answer, without scripts and without anything of another host.
"""

from __future__ import annotations

import html
from importlib import metadata

from starlette.requests import Request
from starlette.responses import Response

from ingress.context import Context, context
from ingress.endpoints.health import faults, named, need_own_host
from schemas.errors import HeadraceError

_HEADERS = {
    "content-type": "text/html; charset=utf-8",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 3rem auto; max-width: 40rem; padding: 0 1rem; }
code { font-family: ui-monospace, monospace; overflow-wrap: anywhere; }
li { margin: .25rem 0; }
"""


def page(request: Request) -> Response:
    """Raises UnknownHost."""
    need_own_host(request)
    here = context(request)
    wrong = faults(here)
    page = _page(wrong, _models(here, request), here.config.console.public_url)
    return Response(page, 503 if wrong else 200, _HEADERS)


def _models(here: Context, request: Request) -> list[str]:
    try:
        return named(here, request)
    except HeadraceError:  # its key is not good: the page tells no more than to those without one
        return []


def _page(wrong: list[str], models: list[str], console: str) -> str:
    state = f"Not well now: {', '.join(wrong)}." if wrong else "All is well."
    served = ""
    if models:
        names = "".join(f"<li><code>{html.escape(name)}</code></li>" for name in models)
        served = f"<h2>Models</h2><ul>{names}</ul>"
    pages = ""
    if console:
        there = html.escape(console)
        pages = f'<p>What runs, requests, a playground: <a href="{there}">the console</a>.</p>'
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Headrace</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>
<body><main><h1>Headrace</h1>
<p>One OpenAI-compatible address in front of many GPUs. Release {html.escape(_release())}.</p>
<p role="status"><strong>{html.escape(state)}</strong></p>
<p>Clients use this address with <code>/v1</code> behind it as their base URL, and a key. What can
be asked of it besides: <code>/v1/models</code>, <code>/v1/queue</code>, <code>/v1/requests</code>,
<code>/v1/usage</code>, <code>/readyz</code> and <code>/metrics</code>.</p>
{pages}{served}</main></body></html>
"""


def _release() -> str:
    return metadata.version("headrace")
