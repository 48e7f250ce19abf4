"""The live compatibility matrix: probes each served model with real requests, and reports on each.

A probe asserts behaviour (the tool call comes back, the schema holds, the same seed repeats), never
a mere status 200. Its requests are a client's: they go through the whole HTTP edge, with the key of
whoever asked for the matrix.
"""
