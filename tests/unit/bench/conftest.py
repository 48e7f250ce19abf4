"""The tests of the load need a llama-server, too."""

from tests.unit.doubles.llamacpp.conftest import Start, start

__all__ = ["Start", "start"]
