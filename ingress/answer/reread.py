"""Changes a whole answer before its client gets it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from schemas.api import piecewise, piecewise_write


async def reread(response: Response, change: Callable[[Any], Any]) -> None:
    """Put what `change` makes of the document into its place; None leaves it as it is. Raises what
    `change` raises, ValueError for what is no JSON or has too many parts."""
    found = await piecewise.load(bytes(response.body))
    if (made := change(found)) is not None:
        response.body = await piecewise_write.dump(made)
        response.headers["content-length"] = str(len(response.body))
