"""Freed memory goes back to the system, and large blocks have pages of their own."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from schemas import heap

MAPPED = """
import ctypes
from schemas import heap

class Info(ctypes.Structure):
    _fields_ = [(f"f{at}", ctypes.c_size_t) for at in range(10)]  # hblks is the fourth

def mapped():
    call = ctypes.CDLL(None).mallinfo2
    call.restype = Info
    return call().f3

if %s:
    heap.steady()
for _ in range(2):
    before = mapped()
    block = bytes(heap.LARGE)
    more = mapped() - before
    del block
print(more)
"""


def test_a_system_without_that_call_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    heap.trimmer()(0)
    monkeypatch.setattr("ctypes.CDLL", dict)
    heap.trimmer()(0)
    heap.steady()


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc of 2.33")
@pytest.mark.parametrize("steady", [True, False])
def test_a_large_block_behind_another_has_its_own_pages(steady: bool) -> None:
    """Left alone, glibc takes the second one from the heap."""
    plain = {n: v for n, v in os.environ.items() if not n.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    command = [sys.executable, "-c", MAPPED % steady]
    ran = subprocess.run(command, env=plain, capture_output=True, text=True, check=True)
    assert int(ran.stdout) == steady
