"""Requests with an `Idempotency-Key`: asked several times, done once."""
