"""What keys and accounts may use at most, exact over all ingresses: see ADR 12."""
