"""HTTP itself: the protocol's limits, bodies, keys, CORS, and how each API says an error."""
