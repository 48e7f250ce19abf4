"""Which models there are, where they may run, and what they make of a request's fields."""
