"""The fields that do nothing at a model that does not reason."""

from __future__ import annotations

from schemas.api.reasoning import OFF
from schemas.nodes import Ignored

_WHY = "the model does not reason"
_RESPONSES, _MESSAGES = ("responses", "input_tokens"), ("messages", "count_tokens")
_NOTHING = (*OFF, "medium")
"""An answer without thoughts comes anyway, and "medium" is the default."""
NO_THOUGHTS = (
    Ignored("reasoning_effort", _WHY, ("chat",), _NOTHING),
    Ignored("think", _WHY, ("chat",), (False,)),
    Ignored("reasoning.effort", _WHY, _RESPONSES, _NOTHING),
    Ignored("thinking", _WHY, _MESSAGES, ({"type": "disabled"}, {"type": "adaptive"})),
    Ignored("output_config.effort", _WHY, _MESSAGES, ("high",)),
)
