"""Test suites that others publish, run at llama-server and at Headrace: `scripts/suites`."""
