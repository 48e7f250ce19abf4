"""The contract: what two processes of Headrace must agree on. No I/O except `bus`."""
