"""Answers that are there already, or on their way: see ADR 18."""
