"""The sockets that an ingress listens on."""

from __future__ import annotations

import contextlib
import sys

import pytest

from ingress.http.listeners import ListenFailed, bound, port_of


@pytest.mark.skipif(sys.platform != "linux", reason="others do not divide connections")
def test_several_may_have_one_port() -> None:
    with contextlib.ExitStack() as stack:
        port = port_of(bound("127.0.0.1", 0, stack, shared=True))
        (second,) = bound("127.0.0.1", port, stack, shared=True)
        second.listen()
        with pytest.raises(ListenFailed, match="cannot listen"):
            bound("127.0.0.1", port, stack)


def test_one_that_is_alone_lets_none_beside_it() -> None:
    with contextlib.ExitStack() as stack:
        (first,) = bound("127.0.0.1", 0, stack)
        first.listen()
        with pytest.raises(ListenFailed, match="--port"):
            bound("127.0.0.1", port_of([first]), stack, shared=True)
