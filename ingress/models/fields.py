"""What the live engines of a model can do with a request, to refuse it early and say why.

A field that would do nothing is refused, unless it is a hint (`schemas.api.hints`): then the
answer has a warning. A field that is known neither of OpenAI's API nor of the engine passes with a
warning, too, as the engine may be newer than what is known of it (`Ability.strange`). Tools that
only a server can run are left out, with a warning, if there are others.

A job goes to whichever engine of its model is free. So a field counts as honoured only if all of
them honour it, while an endpoint is open as soon as one of them has it. A provider is chosen by
what the request asks for, so one provider that honours a field is enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import accumulate
from typing import Any

from ingress.models.catalog import Catalog
from schemas.api.endpoints import BY_WORD
from schemas.api.hints import CACHE_CONTROL, is_hint, without_server_tools
from schemas.errors import UnsupportedEndpoint, UnsupportedParameter
from schemas.nodes import Ignored, ServedModel, names_at

SERVER_TOOLS = "server_tools"
"""The feature of an engine that runs tools itself, such as a web search."""
_SERVERS: Mapping[str, str] = {
    "llamacpp": "llama-server",
    "embedded": "llama-server",
    "vllm": "vLLM",
    "ollama": "Ollama",
    "sdcpp": "sd-server",
    "whisper": "whisper-server",
}
"""What the projects that make these engines call them."""
_NO_SERVER = "only functions can be offered, and this is of type"
_FORCED = ", which 'tool_choice' asks for"
_ALONE = ", and there is no other tool"
_NONE: frozenset[str] = frozenset()
_CACHE_SIGN = b'"cache_control"'
"""Each request with the field, which may be in any message, contains this. It cannot match inside a
text, because JSON escapes the quotes there."""
_MOST_TOLD = 1000
"""Characters of one warning."""
_MOST_ODD = 4
_LONGEST = 64
_LIKE = 0.75
"""For warnings of strange fields: how many are named, how many letters of each, and how alike a
known name must be to be proposed."""
_KEPT = 100
"""Warnings that are remembered for each endpoint of a model. To find the name that was meant takes
0.7 ms (measured), more than all else that an ingress does for a request, and a client sends the
same fields each time."""


@dataclass(frozen=True, slots=True)
class Ability:
    """What a model can do at the endpoint with the word `feature`.

    `can`: all features of the model. `tops`: top-level fields that a request has to be checked for.
    `choices`: how many choices (`n`) every engine can give at once. `own`: the engines that tell
    which fields they know, each with these. `known`: OpenAI's fields, and those that all in `own`
    know; None if there are none in `own`. `sign`: bytes that each request contains in which
    a field is set that may lie at any depth and is ignored.
    """

    feature: str
    open: bool
    can: tuple[str, ...]
    tops: frozenset[str]
    ignored: tuple[Ignored, ...]
    choices: int
    sign: bytes = b""
    known: frozenset[str] | None = None
    own: tuple[tuple[str, frozenset[str]], ...] = ()
    _doubts: dict[str, str] = field(default_factory=dict, compare=False)

    def lost(
        self,
        model: str,
        request: Mapping[str, Any],
        taken: frozenset[str] = _NONE,
        signed: bool = False,
    ) -> list[Ignored]:
        """The fields of `request` that would have no effect. `taken`: fields that the fabric
        honours itself. `signed`: the request's bytes have the `sign`. Raises UnsupportedEndpoint,
        which names the `model`."""
        if not self.open:
            raise UnsupportedEndpoint(_elsewhere(model, self.feature, self.can), param="model")
        if self.tops.isdisjoint(request) and not signed:
            return []
        found = {
            each.field: each
            for each in self.ignored
            if each.field not in taken
            and (each.wanted(request) or (signed and each.field == CACHE_CONTROL))
        }
        return list(found.values())

    def without_server_tools(
        self, request: dict[str, Any], lost: Iterable[Ignored]
    ) -> tuple[dict[str, Any], list[Ignored]]:
        """The request to serve, and an entry for each tool that was left out. `lost`: the fields of
        the request that have no effect."""
        if SERVER_TOOLS in self.can or any(each.field == "tools" for each in lost):
            return request, []
        left = without_server_tools(request, BY_WORD[self.feature].api.own_tools)
        if left is None:
            return request, []
        kept = not (left.alone or left.forced)
        more = _FORCED if left.forced else _ALONE if left.alone else ""
        return left.request, [
            Ignored(f"{place}.type", f"{_NO_SERVER} {kind[:_LONGEST]!r}{more}", partly=kept)
            for place, kind in left.dropped.items()
        ]

    def strange(self, request: Mapping[str, Any]) -> str:
        """A warning of fields that nobody is known to have, or ""."""
        known = self.known
        if known is None or known.issuperset(request):
            return ""
        odd = [name for name in request if name not in known]
        told = [self._doubtful(name[:_LONGEST]) for name in odd[:_MOST_ODD]]
        if len(odd) > _MOST_ODD:
            told.append(f"and {len(odd) - _MOST_ODD} more")
        return "; ".join(told)

    def _doubtful(self, name: str) -> str:
        told = self._doubts.get(name)
        if told is None:
            if len(self._doubts) >= _KEPT:
                self._doubts.clear()
            told = self._doubts[name] = _doubtful(name, self)
        return told


UNKNOWN = Ability("", open=True, can=(), tops=_NONE, ignored=(), choices=1)
"""The ability of a model of which nothing is known."""


def ability(
    catalog: Catalog,
    model: str,
    feature: str,
    paid: bool = False,
    nodes: frozenset[str] | None = None,
) -> Ability:
    """The ability of `model` as the cards say now. `paid`: only its providers count. Otherwise they
    count if no engine is live. `nodes`: only the engines of these."""
    serving = [] if paid else catalog.serving(model, nodes)
    if not serving and (providing := catalog.providing(model)):
        return _of_any(providing, feature)
    return _ability(serving, feature)


def refuse(model: str, found: Iterable[Ignored], feature: str) -> list[Ignored]:
    """The fields of which the client is only warned. Raises UnsupportedParameter for the first
    field that has no effect at all, and is neither a hint nor tried all the same."""
    warned = []
    for each in found:
        if each.partly or is_hint(each.field, feature):
            warned.append(each)
            continue
        if each.tried:
            continue
        raise UnsupportedParameter(
            f"{each.field!r} has no effect with the model {model!r}: {each.why}. "
            "Leave it out, send the header 'x-headrace-lenient: true', or use a lenient key.",
            param=each.field,
        )
    return warned


def warning(found: Iterable[Ignored], strange: str = "") -> str:
    """The text for the warning header of an answer. If it would be too long, the last fields are
    only counted."""
    told = [f"{each.field} has no effect: {each.why}" for each in found]
    lengths = accumulate(len(each) + len("; ") for each in told)
    fitting = sum(length <= _MOST_TOLD for length in lengths)
    if fitting < len(told):
        told = [*told[:fitting], f"and {len(told) - fitting} more have no effect"]
    return _printable("; ".join([*told, strange] if strange else told))


def _doubtful(name: str, ability: Ability) -> str:
    lacking = dict.fromkeys(server for server, names in ability.own if name not in names)
    told = f"{name!r} is known neither to OpenAI's API nor to {' or '.join(lacking)}"
    near = get_close_matches(name, ability.known or (), 1, _LIKE)
    return f"{told}; did you mean {near[0]!r}?" if near else told


def _printable(text: str) -> str:
    ascii_ = text.encode("ascii", "replace").decode()
    return "".join(letter if letter.isprintable() else " " for letter in ascii_)


def _ability(serving: list[ServedModel], feature: str) -> Ability:
    """The ability that all of `serving` have. Without a live engine nothing is known: a request
    waits for one, and asks it for one choice at a time, which every engine can give."""
    here = [each for each in serving if each.has(feature)]
    ignored = tuple(
        entry for each in here for entry in each.ignores if not entry.at or feature in entry.at
    )
    own = tuple(
        (_SERVERS.get(each.kind, each.kind), names)
        for each in here
        if (names := names_at(each.knows, feature)) is not None
    )
    tops = frozenset(entry.field.partition(".")[0] for entry in ignored)
    choices = [each.slots if each.has("n") else 1 for each in here]
    # A field that only some of them know is strange: the job may come to one that ignores it.
    shared = frozenset.intersection(*(names for _, names in own)) if own else _NONE
    return Ability(
        feature,
        open=bool(here) or not serving,
        can=tuple(sorted({word for each in serving for word in each.features})),
        tops=tops | {"tools"},  # for `without_server_tools`
        ignored=ignored,
        choices=min(choices, default=1),
        sign=_sign(ignored),
        known=BY_WORD[feature].shape.names | shared | tops if own else None,
        own=own,
    )


def _of_any(paid: list[ServedModel], feature: str) -> Ability:
    """The ability of a model that only providers have. A request goes to one that honours all of
    its fields, so only fields that none of them honours are refused."""
    each = [_ability([one], feature) for one in paid]
    able = [one for one in each if one.open] or each
    lost = set.intersection(*({entry.field for entry in one.ignored} for one in able))
    ignored = tuple(entry for entry in able[0].ignored if entry.field in lost)
    return Ability(
        feature,
        open=able[0].open,
        can=tuple(sorted({word for one in each for word in one.can})),
        tops=frozenset(entry.field.partition(".")[0] for entry in ignored),
        ignored=ignored,
        choices=128 if any("n" in one.can for one in able) else 1,  # OpenAI's most
        sign=_sign(ignored),
    )


def _sign(ignored: Iterable[Ignored]) -> bytes:
    return _CACHE_SIGN if any(each.field == CACHE_CONTROL for each in ignored) else b""


def _elsewhere(model: str, feature: str, can: tuple[str, ...]) -> str:
    has = ", ".join(each.path for word, each in BY_WORD.items() if word in can) or "no endpoint"
    return f"The model {model!r} has no {BY_WORD[feature].path}; it has {has}."
