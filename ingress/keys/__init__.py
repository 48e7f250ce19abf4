"""Keys in the broker's account KEYS: written by commands and by the admin's endpoints, followed by
each ingress."""
