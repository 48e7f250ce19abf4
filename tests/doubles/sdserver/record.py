"""What sd-server answered when it was recorded (`data/sdserver.json`)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.doubles.sdserver.pictures import Draw

CREATED = 1795374741
RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded.json").read_text())
CAPABILITIES: dict[str, Any] = json.loads(RECORDED["sdcpp_capabilities"]["body"])


@dataclass(slots=True)
class Work:
    """One job of its own API."""

    id: str
    ask: Draw
    status: str = "queued"
    images: list[str] | None = None
    error: str = ""

    def page(self, position: int) -> dict[str, Any]:
        result = None
        if self.images is not None:
            images = [{"b64_json": b64, "index": i} for i, b64 in enumerate(self.images)]
            result = {"images": images, "output_format": self.ask.format}
        begun = None if self.status in ("queued", "cancelled") else CREATED
        ended = None if self.status in ("queued", "generating") else CREATED
        failed = {"cancelled": "job cancelled by client", "failed": self.error}
        error = None
        if self.status in failed:
            code = "cancelled" if self.status == "cancelled" else "generation_failed"
            error = {"code": code, "message": failed[self.status]}
        return {
            "completed": ended,
            "created": CREATED,
            "error": error,
            "id": self.id,
            "kind": "img_gen",
            "queue_position": position,
            "result": result,
            "started": begun,
            "status": self.status,
        }
