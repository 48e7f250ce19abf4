"""``headrace engine``: what engines and model files this machine has, and the tables for them."""
