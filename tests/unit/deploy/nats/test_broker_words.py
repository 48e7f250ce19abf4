from __future__ import annotations

from deploy.nats.broker import stuck

BEGUN = "[7] 2026/11/29 08:13:17.182644 [INF]   Starting restore for stream 'LEDGER > CREDITS'"
DONE = "[7] 2026/11/29 [INF]   Restored 20 messages for stream 'LEDGER > CREDITS' in 16ms"


def test_a_server_that_reads_a_damaged_file_for_ever_is_told_with_the_stream() -> None:
    assert "'LEDGER > CREDITS', whose files may be damaged" in stuck([BEGUN])


def test_a_server_that_has_read_all_is_slow_for_another_reason() -> None:
    assert stuck([BEGUN, DONE]) == ""
    assert stuck([]) == ""
