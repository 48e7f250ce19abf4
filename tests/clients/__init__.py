"""Clients as people install them, run against the fabric: `scripts/clients`, `docs/clients.md`."""
