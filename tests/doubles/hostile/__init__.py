"""Engines, providers, workers and clients that do harm, each by a table of what it does."""
