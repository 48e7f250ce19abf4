"""Prints for which Python and system a lock file is, as ``linux-x86_64-py311``."""

import platform
import sys

print(f"{sys.platform}-{platform.machine()}-py{sys.version_info[0]}{sys.version_info[1]}")
