"""Codecs and parsers under atheris: bytes that reach new lines are changed further, for minutes."""
