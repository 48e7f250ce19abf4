"""What can go wrong with a simulated provider, one request at a time.

A fault is taken by the next request that it fits, in the order of addition. `after`: the tokens
that are generated before it strikes; None is before the head, 0 right behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Act = Literal["answer", "refuse", "hang", "cut", "error", "end"]


class Refused(Exception):
    """A request that gets an error in the provider's own shape; None leaves a field to it."""

    def __init__(
        self,
        status: int,
        message: str = "",
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Fault:
    """Made by the functions below. `body`: None for the provider's own to this status."""

    act: Act = "answer"
    after: int | None = None
    status: int = 0
    message: str = ""
    code: str | None = None
    param: str | None = None
    retry_after: float | None = None
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    head_s: float = 0.0
    inside: bool = False
    reset: bool = False
    metered: bool = True
    done: bool = True

    @property
    def name(self) -> str:
        if self == NONE:
            return ""
        where = "" if self.after is None else f" after {self.after}"
        return f"{self.act} {self.status or ''}".strip() + where

    def refusal(self) -> Refused:
        return Refused(
            self.status,
            self.message,
            code=self.code,
            param=self.param,
            retry_after=self.retry_after,
        )


def refuse(
    status: int,
    *,
    code: str | None = None,
    message: str = "",
    param: str | None = None,
    retry_after: float | None = None,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
) -> Fault:
    """An error in place of the answer. `code` picks among the provider's errors of one status:
    429 is a rate limit, or with ``code="insufficient_quota"`` an empty purse. `body` (JSON or
    bytes) replaces the provider's own."""
    return Fault(
        "refuse",
        status=status,
        code=code,
        message=message,
        param=param,
        retry_after=retry_after,
        body=body,
        headers=headers or {},
    )


def hang(after: int | None = None) -> Fault:
    """Silence for as long as the client stays."""
    return Fault("hang", after)


def cut(after: int | None = None, *, inside: bool = False, reset: bool = False) -> Fault:
    """The connection closes. `inside`: with the first half of the next event sent. `reset`: by
    RST. An answer that is not streamed is cut in the middle of its body, for any `after` but
    None."""
    return Fault("cut", after, inside=inside, reset=reset)


def broken(after: int = 0, *, code: str | None = None, status: int = 500) -> Fault:
    """An error after `after` tokens: as an event in a stream, as a `status` otherwise."""
    return Fault("error", after, status=status, code=code)


def unfinished(after: int) -> Fault:
    """An answer that ends well for HTTP, with neither a finish reason nor ``[DONE]``."""
    return Fault("end", after)


def undone() -> Fault:
    """Everything but the last ``[DONE]`` (or the provider's last event)."""
    return Fault(done=False)


def unmetered() -> Fault:
    """A good answer without its usage."""
    return Fault(metered=False)


def slow(seconds: float) -> Fault:
    """A good answer whose head is late."""
    return Fault(head_s=seconds)


NONE = Fault()


@dataclass(slots=True)
class _Planned:
    fault: Fault
    model: str | None
    path: str | None
    times: int


class Faults:
    """The outcomes to come."""

    def __init__(self) -> None:
        self._planned: list[_Planned] = []

    def add(
        self, *faults: Fault, model: str | None = None, path: str | None = None, times: int = 1
    ) -> None:
        """For the next requests of `model`, whose path ends with `path`; `times` -1: for all of
        them from now on."""
        self._planned += [_Planned(fault, model, path, times) for fault in faults]

    def clear(self) -> None:
        self._planned.clear()

    def __len__(self) -> int:
        return len(self._planned)

    def take(self, model: str, method: str, path: str) -> Fault:
        """NONE if all goes well. A look at the models takes only what names its path."""
        for planned in self._planned:
            if planned.model not in (None, model) or not path.endswith(planned.path or ""):
                continue
            if method != "POST" and planned.path is None:
                continue
            planned.times -= 1
            if planned.times == 0:
                self._planned.remove(planned)
            return planned.fault
        return NONE
