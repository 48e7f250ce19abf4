"""Programs that a worker starts, watches and ends."""
