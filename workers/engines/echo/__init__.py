"""The engine without a model: it says its prompt back, at a pace that tests set."""
