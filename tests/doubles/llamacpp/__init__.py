"""llama-server without a model, and its answers as they were recorded."""

from pathlib import Path

DATA = Path(__file__).parent / "data"
"""What llama-server answered when it was recorded."""
