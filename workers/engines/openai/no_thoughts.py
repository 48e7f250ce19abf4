"""The fields that do nothing at a model that does not reason."""

from __future__ import annotations

from schemas.api.hints import CHAT, MESSAGES, RESPONSES
from schemas.api.reasoning import OFF
from schemas.nodes import Ignored

_WHY = "the model does not reason"
_NOTHING = (*OFF, "medium")
"""An answer without thoughts comes anyway, and "medium" is the default."""
NO_THOUGHTS = (
    Ignored("reasoning_effort", _WHY, CHAT, _NOTHING),
    Ignored("think", _WHY, CHAT, (False,)),
    Ignored("reasoning.effort", _WHY, RESPONSES, _NOTHING),
    Ignored("thinking", _WHY, MESSAGES, ({"type": "disabled"}, {"type": "adaptive"})),
    Ignored("output_config.effort", _WHY, MESSAGES, ("high",)),
)
