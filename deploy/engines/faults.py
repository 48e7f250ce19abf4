"""What `headrace engine` cannot do, told so that the user can mend it."""

from __future__ import annotations

from deploy.configure import CommandFailed


class BadInput(CommandFailed):
    """What was asked for is wrong in itself: the command ends with exit code 2."""
