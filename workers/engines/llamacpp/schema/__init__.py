"""Rewrites JSON schemas so that llama-server's grammar can follow them."""
