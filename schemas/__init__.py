"""The contract between processes of Headrace. Only `bus` and `jetstream` use the network."""
