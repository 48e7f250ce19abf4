from __future__ import annotations

from pathlib import Path

from deploy.nats.server_log import of_process, spoilt, stuck

BEGUN = "[7] 2026/11/29 08:13:17.182644 [INF]   Starting restore for stream 'LEDGER > CREDITS'"
DONE = "[7] 2026/11/29 [INF]   Restored 20 messages for stream 'LEDGER > CREDITS' in 16ms"


def test_a_server_that_reads_a_damaged_file_for_ever_is_told_with_the_stream() -> None:
    assert "'LEDGER > CREDITS', whose files may be damaged" in stuck([BEGUN])


def test_a_server_that_has_read_all_is_slow_for_another_reason() -> None:
    assert stuck([BEGUN, DONE]) == ""
    assert stuck([]) == ""


SPOILT = (
    "[8] 2026/11/30 04:40:40.864191 [WRN]     Error adding consumer 'HEADRACE > JOBS > m,1-b4': "
    "error creating store for consumer: corrupt state file (10104)"
)


def test_a_consumer_whose_file_cannot_be_read_is_found_in_the_log_of_its_run() -> None:
    (found,) = spoilt(Path("/store"), [BEGUN, SPOILT])
    assert found == Path("/store/jetstream/HEADRACE/streams/JOBS/obs/m,1-b4")
    assert spoilt(Path("/store"), of_process([BEGUN, SPOILT], 7)) == []


def test_so_is_one_whose_description_cannot_be_read() -> None:
    place = "/store/jetstream/HEADRACE/streams/JOBS/obs/m-i4"
    line = f'[8] [WRN]   Error unmarshalling consumer metafile "{place}/meta.inf": json: unknown'
    assert spoilt(Path("/store"), [line]) == [Path(place)]
    assert spoilt(Path("/elsewhere"), [line]) == []
