"""Why an engine cannot be built; each message says what to do.

::

    BuildError
    ├── ToolMissing      no compiler, no pip
    ├── PackageMissing   the package index did not give the package
    └── ModelUnreadable  the package's model is not what the converter knows
"""

from __future__ import annotations


class BuildError(RuntimeError):
    """Base of the tree; also a compiler's failure, with its last lines."""


class ToolMissing(BuildError):
    pass


class PackageMissing(BuildError):
    pass


class ModelUnreadable(BuildError):
    pass
