"""What the live engines of a model can do with a request: refuse it early, and say why.

Fields without an effect on the output are nobody's business: `user`, `metadata`, `store`,
`service_tier`, `safety_identifier`, `prompt_cache_key`, `prompt_cache_retention` and `prediction`
pass in silence. A field that neither OpenAI's API nor the engine is known to have passes, as the
engine may be newer than what is known of it; but the answer says so (`Ability.strange`).

Jobs of a model go to whichever of its engines is free. So a field counts as honoured only if all
of them honour it, while an endpoint is open as soon as one of them has it. Providers are chosen by
what a request asks for: there, one that honours a field is enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from ingress.models.catalog import Catalog
from schemas.api.endpoints import BY_WORD
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
"""What the engines of a kind are called where they come from."""
_NONE: frozenset[str] = frozenset()
_MOST_ODD = 4
_LONGEST = 64
_LIKE = 0.75
"""How many strange fields are named, their letters, and how alike a name must be that was meant."""
_KEPT = 100
"""Strange fields that are remembered of each endpoint of a model: to find what was meant takes 0.7
ms for each (measured), more than all else that an ingress does for a request, and a client sends
the same ones each time."""


@dataclass(frozen=True, slots=True)
class Ability:
    """What a model can do at the endpoint with the word `feature`. `can`: all that it has. `tops`:
    names of the fields that need a look. `choices`: how many choices (`n`) every engine can give at
    once. `known`: names of all fields that every engine has that tells its own, with OpenAI's; None
    if none does. `own`: the engines' names, and those of their own fields."""

    feature: str
    open: bool
    can: tuple[str, ...]
    tops: frozenset[str]
    ignored: tuple[Ignored, ...]
    choices: int
    known: frozenset[str] | None = None
    own: tuple[tuple[str, frozenset[str]], ...] = ()
    _doubts: dict[str, str] = field(default_factory=dict, compare=False)

    def lost(
        self, model: str, request: Mapping[str, Any], taken: frozenset[str] = _NONE
    ) -> list[Ignored]:
        """The fields of `request` that would do nothing. `taken`: fields that the fabric honours
        itself. Raises UnsupportedEndpoint, which names the `model`."""
        if not self.open:
            raise UnsupportedEndpoint(_elsewhere(model, self.feature, self.can), param="model")
        if self.tops.isdisjoint(request):
            return []
        found = {
            each.field: each
            for each in self.ignored
            if each.field not in taken and each.wanted(request)
        }
        looked_at = "tools" in request and "tools" in self.tops and "tools" not in found
        if looked_at and SERVER_TOOLS not in self.can:
            foreign = _foreign_tool(request, self.feature)
            if foreign is not None:
                found[foreign.field] = foreign
        return list(found.values())

    def strange(self, request: Mapping[str, Any]) -> str:
        """A warning of fields that nobody is known to have; mostly empty."""
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
"""Of whom nothing is known."""


def ability(catalog: Catalog, model: str, feature: str, paid: bool = False) -> Ability:
    """As the cards say now. `paid`: of its providers alone; otherwise theirs counts where no engine
    is here."""
    serving = [] if paid else catalog.serving(model)
    if not serving and (providing := catalog.providing(model)):
        return _of_any(providing, feature)
    return _ability(serving, feature)


def refuse(model: str, found: Iterable[Ignored]) -> list[Ignored]:
    """Those of which the client is only warned. Raises UnsupportedParameter, which names the first
    that is neither that nor worth a try."""
    warned = []
    for each in found:
        if each.partly:
            warned.append(each)
        if each.tried or each.partly:
            continue
        raise UnsupportedParameter(
            f"{each.field!r} has no effect with the model {model!r}: {each.why}. "
            "Leave it out, or send the header 'x-headrace-lenient: true'.",
            param=each.field,
        )
    return warned


def warning(found: Iterable[Ignored], strange: str = "") -> str:
    """For the header of an answer that was given all the same."""
    told = [f"{each.field} has no effect: {each.why}" for each in found]
    return _printable("; ".join([*told, strange] if strange else told))


def _doubtful(name: str, ability: Ability) -> str:
    lacking = dict.fromkeys(server for server, names in ability.own if name not in names)
    told = f"{name!r} is known neither to OpenAI's API nor to {' or '.join(lacking)}"
    near = get_close_matches(name, ability.known or (), 1, _LIKE)
    return f"{told}; did you mean {near[0]!r}?" if near else told


def _printable(text: str) -> str:
    ascii_ = text.encode("ascii", "replace").decode()
    return "".join(letter if letter.isprintable() else " " for letter in ascii_)


def _foreign_tool(request: Mapping[str, Any], feature: str) -> Ignored | None:
    """A tool that only a server can run, or that only its own models know."""
    own = BY_WORD[feature].api.own_tools
    for index, tool in enumerate(request.get("tools") or ()):
        if tool.get("type") not in own:
            why = f"only functions can be offered, and this is of type {tool.get('type')!r}"
            return Ignored(f"tools[{index}].type", why)
    return None


def _ability(serving: list[ServedModel], feature: str) -> Ability:
    """Of no live engine nothing is known: such a request waits for one, and asks it for one choice
    at a time, which every engine can give."""
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
    # What one of them has, and another has not, may be passed over.
    shared = frozenset.intersection(*(names for _, names in own)) if own else _NONE
    return Ability(
        feature,
        open=bool(here) or not serving,
        can=tuple(sorted({word for each in serving for word in each.features})),
        tops=tops | {"tools"},
        ignored=ignored,
        choices=min(choices, default=1),
        known=BY_WORD[feature].shape.names | shared | tops if own else None,
        own=own,
    )


def _of_any(paid: list[ServedModel], feature: str) -> Ability:
    """Of a model that only providers have. A request goes to one that honours all of its fields, so
    only what none of them honours is refused."""
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
        choices=128 if any("n" in one.can for one in able) else 1,
    )


def _elsewhere(model: str, feature: str, can: tuple[str, ...]) -> str:
    has = ", ".join(BY_WORD[word].path for word in can if word in BY_WORD) or "no endpoint"
    return f"The model {model!r} has no {BY_WORD[feature].path}; it has {has}."
