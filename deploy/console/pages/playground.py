from __future__ import annotations

from deploy.console import parts
from deploy.console.session import Session


def build(session: Session) -> None:
    parts.empty("This page is not there yet.")
