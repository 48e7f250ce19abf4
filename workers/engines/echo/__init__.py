"""The engine without a model: it repeats its prompt, at a pace that tests set."""
