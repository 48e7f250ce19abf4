"""Power cuts of the broker's machine, run by `scripts/power-cut`: what was not synced is gone.

strace tells each fsync of the broker, and the file is copied then; at the cut, every file gets what
its last copy has, and one that was never synced is empty. What is written in the milliseconds until
the copy is made counts as synced. Names of files count as synced at once, as a journal of the file
system keeps them in order.
"""
