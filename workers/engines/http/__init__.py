"""The HTTP client that carries every token from an engine."""
