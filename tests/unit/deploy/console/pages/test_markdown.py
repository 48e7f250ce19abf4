"""Answers of models are shown, and do nothing else."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.console.pages.markdown import MOST, rendered

_ELEMENTS = frozenset(
    [
        *("h1", "h2", "h3", "h4", "h5", "h6", "p", "ul", "ol", "li", "blockquote", "pre", "code"),
        *("em", "strong", "s", "a", "br", "hr", "table", "thead", "tbody", "tr", "th", "td"),
    ]
)
_ATTRIBUTES = frozenset({"href", "title", "class", "style", "start"})


class _Seen(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs


_PIECES = st.sampled_from(
    [
        *("<img src=x onerror=alert(1)>", "<script>alert(1)</script>", "<svg/onload=alert(1)>"),
        *("[a](javascript:alert(1))", "[a](JaVaScRiPt:x)", "![a](https://evil.example/?q=1)"),
        *("<https://a.b>", "[a](/keys)", "[a](//evil.example)", "[a](data:text/html,x)", "\n\n"),
        *("```html\n<b onclick=x>\n```\n", "|a|b|\n|:-|-|\n|1|2|\n", "> ", "- ", "1. ", "`", "*"),
        *('[x]: https://a.b "t"\n', "&lt;img&gt;", "&#106;avascript:", '"onmouseover="x', "~~"),
    ]
)


@given(st.lists(_PIECES | st.text(max_size=20), max_size=12).map("".join))
def test_nothing_of_an_answer_is_run_or_loaded(answer: str) -> None:
    seen = _Seen(rendered(answer))
    assert set(seen.elements) <= _ELEMENTS
    for name, value in seen.attributes:
        assert name in _ATTRIBUTES
        if name == "href":
            assert (value or "").lower().startswith(("http:", "https:", "mailto:"))
        if name == "style":  # the alignment of a column
            assert (value or "").startswith("text-align:")


def test_html_of_an_answer_is_its_text() -> None:
    assert "&lt;img src=x onerror=alert(1)&gt;" in rendered("<img src=x onerror=alert(1)>")


def test_a_picture_is_not_loaded_but_named() -> None:
    said = rendered("![a cat](https://evil.example/cat.png)")
    assert said == "<p>[a cat: https://evil.example/cat.png]</p>\n"


@pytest.mark.parametrize(
    ("text", "element"),
    [("**a**", "strong"), ("# a", "h1"), ("- a", "li"), ("|a|\n|-|\n|b|", "td"), ("`a`", "code")],
)
def test_markdown_is_rendered(text: str, element: str) -> None:
    assert element in _Seen(rendered(text)).elements


def test_a_very_long_answer_stays_as_it_is() -> None:
    assert _Seen(rendered("*a* <b> " * MOST)).elements == ["pre"]
