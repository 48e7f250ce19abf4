"""Servers that answer like the real engines, byte for byte where it matters, without a model.

Each runs in a test's own event loop (``async with Ollama() as server``) or as a process
(``python -m tests.doubles.ollama.server --port 0``). What cannot be run in the suite is simulated
from its recorded answers (`data/`, held by `test_fidelity.py`) or from its source.
"""
