"""Answers of models as HTML. They may say anything, so none of their own HTML is kept, nothing is
loaded that they name, and links lead only to pages of the web. Pure."""

from __future__ import annotations

import html
from collections.abc import Sequence
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

MOST = 200_000
"""Characters; a longer text stays as it is written."""
_SCHEMES = ("http", "https", "mailto")


def rendered(text: str) -> str:
    if len(text) > MOST:
        return f"<pre>{html.escape(text)}</pre>"
    return str(_parser().render(text))


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True})
    parser.enable(["table", "strikethrough"])
    parser.validateLink = _leads_out  # type: ignore[method-assign]
    parser.add_render_rule("image", _picture)
    return parser


def _leads_out(url: str) -> bool:
    """No page of the console, and no script."""
    try:
        return urlsplit(url.strip()).scheme.lower() in _SCHEMES
    except ValueError:
        return False


def _picture(
    renderer: RendererHTML, tokens: Sequence[Token], at: int, options: Any, env: Any
) -> str:
    """Its text and its address: loading it would tell another host what was answered."""
    token = tokens[at]
    told = renderer.renderInlineAsText(token.children or [], options, env)
    return html.escape(f"[{told or 'picture'}: {token.attrs.get('src', '')}]")
