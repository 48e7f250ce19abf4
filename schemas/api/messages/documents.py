"""Documents and search results in Anthropic's messages: what they must look like, and how they are
said to engines, none of which takes them. Pure.

llama-server b11549 passes over them in silence (measured), and vLLM 0.32 refuses them (its source).
A model gets them as text between tags, as Anthropic's guide to long prompts has it:

    <document>
    <title>…</title>
    <context>…</context>
    …
    </document>

A search result is a ``<search_result>`` with ``<source>`` and ``<title>``. Pictures in a document
stay pictures between its texts. Nothing is escaped: the words are those that the client sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from schemas.api.hints import CACHE_CONTROL
from schemas.api.shape import invalid, object_in, text_in

Block = dict[str, Any]

DOCUMENT, RESULT = "document", "search_result"
KINDS = frozenset({DOCUMENT, RESULT})
SIGNS = b'"document"', b'"search_result"'
"""A request with such a block contains one of these."""
_NO_FILES = (
    "'text' or 'content' is needed, as no files are read here: send the text of a file as the"
    " 'data' of a source of the type 'text'"
)


def parts_of(block: Block, where: str) -> tuple[str, Any]:
    """(path, blocks) of what the block at `where` holds beside texts of its own; the blocks may be
    a text. Raises InvalidRequest for what is no document and no search result."""
    _check_notes(block, where, ("title", "context"))
    if block["type"] == RESULT:
        for name in ("source", "title"):
            text_in(block, name, where)
        if not isinstance(block.get("content"), list):
            raise invalid(f"{where}.content", "a list of texts is needed")
        return f"{where}.content", block["content"]
    source, at = object_in(block, "source", where), f"{where}.source"
    match source.get("type"):
        case "text":
            text_in(source, "data", at)
            return at, ()
        case "content":
            if not isinstance(source.get("content"), str | list):
                raise invalid(f"{at}.content", "a text or a list of parts is needed")
            return f"{at}.content", source["content"]
    raise invalid(f"{at}.type", _NO_FILES)


def _check_notes(block: Block, where: str, names: tuple[str, ...]) -> None:
    for name in names:
        if not isinstance(block.get(name), str | None):
            raise invalid(f"{where}.{name}", "a string is needed")
    if not isinstance(block.get("citations"), dict | None):
        raise invalid(f"{where}.citations", "an object is needed")


def found(request: Mapping[str, Any]) -> Iterator[tuple[str, Block]]:
    """The documents and search results of a checked request, each with its path."""
    for number, message in enumerate(request["messages"]):
        yield from _in(message.get("content"), f"messages[{number}].content")


def _in(content: Any, where: str) -> Iterator[tuple[str, Block]]:
    for number, block in enumerate(content if isinstance(content, list) else ()):
        path = f"{where}[{number}]"
        if block.get("type") in KINDS:
            yield path, block
        elif block.get("type") == "tool_result":
            yield from _in(block.get("content"), f"{path}.content")


def cites(block: Block) -> bool:
    """Whether the answer is to say where in the block it has its words from."""
    return bool((block.get("citations") or {}).get("enabled"))


def as_texts(request: Mapping[str, Any]) -> dict[str, Any]:
    """A checked request with these blocks as texts."""
    return {**request, "messages": list(map(_holder, request["messages"]))}


def _holder(holder: Block) -> Block:
    """The same of a message, or of a tool's result."""
    content = holder.get("content")
    if not isinstance(content, list):
        return holder
    return {**holder, "content": [said for block in content for said in _said(block)]}


def _said(block: Block) -> list[Block]:
    match block.get("type"):
        case "tool_result":
            return [_holder(block)]
        case "document":
            source = block["source"]
            inner = source["data"] if source["type"] == "text" else source["content"]
            about = {name: block.get(name) for name in ("title", "context")}
            return _tagged(block, inner, about)
        case "search_result":
            about = {name: block[name] for name in ("source", "title")}
            return _tagged(block, block["content"], about)
    return [block]


def _tagged(block: Block, inner: Any, about: Mapping[str, str | None]) -> list[Block]:
    """Texts that follow each other are one, as templates put them together in their own ways. What
    else they say, such as `cache_control`, this one says."""
    tag, kept = block["type"], {n: block[n] for n in (CACHE_CONTROL,) if n in block}
    head = "".join(f"<{name}>{text}</{name}>\n" for name, text in about.items() if text)
    parts = [_text(inner)] if isinstance(inner, str) else inner
    made: list[Block] = [_text(f"<{tag}>\n{head}")]
    for part in (*parts, {**_text(f"</{tag}>"), **kept}):
        if part.get("type") == "text" and made[-1]["type"] == "text":
            before = made[-1]["text"]
            text = before + ("" if before.endswith("\n") else "\n") + part["text"]
            made[-1] = {**made[-1], **part, "text": text}
        else:
            made.append(part)
    return made


def _text(text: str) -> Block:
    return {"type": "text", "text": text}
