"""The contract between processes of Headrace. Only `bus` and `jetstream` do I/O."""
