"""What stands in for an OpenTelemetry collector: see `receiver`."""
