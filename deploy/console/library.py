"""Whether the library is here that the pages are made with: it comes with the extra `console`."""

from __future__ import annotations

import importlib.util
import sys

from schemas.settings import SettingsError

NAME = "nicegui"
INSTALL = f"{sys.executable} -m pip install '{NAME}>=3.18,<4'"


def is_installed() -> bool:
    return importlib.util.find_spec(NAME) is not None


def need() -> None:
    """Raises SettingsError."""
    if not is_installed():
        raise SettingsError(f"the console needs NiceGUI, which is not installed: {INSTALL}")
