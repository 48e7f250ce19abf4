"""What is said of logins that the broker refuses, and of what it denies to one. Pure.

A member asks for the jobs of all its models, also before it was granted them: that is denied, and
asked for again. So the first time is no warning; what stays denied is one, once a minute.
"""

from __future__ import annotations

from schemas.settings import Nats

_PULLS = "$js.api.consumer.msg.next."
_SOON = 5.0
"""Seconds within which a hub grants what a node shows, even a slow one."""
_EACH = 60.0
"""Seconds between two warnings of the same subject."""
_MOST = 4096
"""Subjects that are remembered."""

WAITING = "jobs that this node was not granted yet are asked for again"
WARNING = (
    "the broker denies these jobs to this node: does its invitation let it serve the model "
    "('headrace node show' at the hub), and does a hub run?"
)


class Denials:
    """Of one connection."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}
        """When it is time for the next warning, by subject."""

    def pull(self, subject: str, now: float) -> str | None:
        """What to say of the `subject`, in lower case: `WAITING`, `WARNING`, or "" for nothing;
        None if it is no request for jobs. `now`: seconds of any clock that does not go back."""
        if not subject.startswith(_PULLS):
            return None
        due = self._next.get(subject)
        if due is None:
            if len(self._next) >= _MOST:
                self._next.clear()
            self._next[subject] = now + _SOON
            return WAITING
        if now < due:
            return ""
        self._next[subject] = now + _EACH
        return WARNING


def who(settings: Nats) -> str:
    """The refused login without its password, and how to give another one."""
    if settings.seed:
        return (
            f"the key in {settings.seed}: it is that of a node which was evicted, or whose key was "
            "replaced. Join again, with a token of 'headrace node invite' at the hub"
        )
    if settings.creds:
        return f"the login in {settings.creds}: it may have ended, or its account lacks it"
    login = f"the login {settings.user!r}" if settings.user else "who has no login"
    return f"{login}: give one as --nats nats://user:password@host:4222, or in the section [nats]"
