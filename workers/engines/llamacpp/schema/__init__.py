"""Schemas as llama-server's grammar takes them: patterns, references, and what it passes over."""
