"""llama-server without a model: `server` has its pace, `scripted` says what a test tells it."""

from pathlib import Path

DATA = Path(__file__).parent / "data"
"""What llama-server answered when it was recorded."""
