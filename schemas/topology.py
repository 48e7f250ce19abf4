"""Streams and consumers as the broker's own JSON, so that no client library is needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas import subjects
from schemas.settings import Jobs

NS = 1_000_000_000
MIN_SERVER = (2, 12)
"""`prioritized` pulls, counters and per-message TTLs came with nats-server 2.12."""

MAX_AGE = 26 * 3600
"""Seconds. Batch jobs may wait a day; interactive jobs have a shorter TTL of their own."""
MAX_ACK_PENDING = 5000
TTL_SLACK = 5.0
"""Seconds that a job outlives its total deadline, so that its holder can still ack it."""
USAGE_AGE = 400 * 24 * 3600
"""Seconds for which rows of usage are kept: a year and a month."""
CREDITS_WINDOW = 2 * 3600
"""Seconds for which the broker remembers ids of entries, even over a restart (measured)."""
NO_ROOM = frozenset({10023, 10047})
"""err_codes of a stream that wants more room than JetStream may take of the disk."""
_NOT_STORED = 10077
"""err_code of a publish that the stream did not take, whatever the reason: only its text tells."""
_FULL = "maximum messages per subject"


def queue_full(error: Mapping[str, Any]) -> bool:
    """Whether a publish was refused by `max_msgs_per_subject` with `discard_new_per_subject`, and
    not as the disk is full, for example."""
    text = str(error.get("description", "")).lower()
    return error.get("err_code") == _NOT_STORED and _FULL in text


def streams(jobs: Jobs, replicas: int) -> list[dict[str, Any]]:
    """Configurations for ``$JS.API.STREAM.CREATE``."""
    return [
        {
            "name": subjects.JOBS_STREAM,
            "description": "Headrace jobs: waiting and running, one subject a model and lane",
            "subjects": [subjects.ALL_JOBS],
            "retention": "workqueue",
            "storage": "file",
            "num_replicas": replicas,
            "discard": "new",
            "discard_new_per_subject": True,  # a full queue refuses jobs of its own model only
            "max_msgs_per_subject": jobs.queue_depth,
            "max_age": MAX_AGE * NS,
            "allow_msg_ttl": True,
            "duplicate_window": 120 * NS,
            "allow_direct": True,
        },
        {
            **_kept(subjects.DEAD_STREAM, subjects.ALL_DEAD, replicas, jobs.dead_age, 256),
            "description": "Headrace dead letters: jobs past their last attempt, with the error",
        },
        {
            **_kept(subjects.USAGE_STREAM, subjects.ALL_USAGE, replicas, USAGE_AGE, 512),
            "description": "Headrace usage: what workers served, in sums of a minute",
            "allow_rollup_hdrs": True,  # the sums of a window replace those before
        },
        {
            **_kept(subjects.ANSWERS_STREAM, subjects.ALL_ANSWERS, replicas, jobs.answer_age, 256),
            "description": "Headrace answers to requests with an idempotency key",
            # The broker takes no window that is longer than `max_age`.
            "duplicate_window": int(min(120, jobs.answer_age) * NS),
            "allow_direct": True,
        },
    ]


def _kept(name: str, subject: str, replicas: int, age: float, mebibytes: int) -> dict[str, Any]:
    """A stream that keeps messages for `age` seconds; if they are too many, the oldest go. The
    broker reserves its bytes on the disk when it makes the stream."""
    return {
        "name": name,
        "subjects": [subject],
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        "max_age": int(age * NS),
        "max_bytes": mebibytes * 2**20,
        "discard": "old",
    }


def credits(replicas: int) -> dict[str, Any]:
    """The configuration of the journal of credits: one counter for each account, append-only.

    A counter stream allows neither `discard: new` nor TTLs, and keeps everything. An entry that is
    sent again within `CREDITS_WINDOW` counts once.
    """
    return {
        "name": subjects.CREDITS_STREAM,
        "description": "Headrace credits: one counter an account, each message an entry",
        "subjects": [subjects.ALL_CREDITS],
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        "allow_msg_counter": True,
        "duplicate_window": CREDITS_WINDOW * NS,
        "allow_direct": True,
        "deny_delete": True,
        "deny_purge": True,
    }


def credits_mark(replicas: int) -> dict[str, Any]:
    """The configuration of the stream that says how far the journal of credits has come."""
    return {
        "name": subjects.MARK_STREAM,
        "description": "Headrace credits: the last entry that was seen",
        "subjects": [subjects.CREDITS_MARK],
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        "max_msgs_per_subject": 1,
        "allow_direct": True,
    }


_LANES = {subjects.INTERACTIVE: "interactive", subjects.CLOUD: "providers alone"}


def consumer(model: str, lane: str, ack_wait: float, replicas: int) -> dict[str, Any]:
    """The configuration of the consumer of one model and lane.

    `max_deliver` is −1, because a message past a limit would stay in the work queue for ever
    without an advisory. The ingress counts attempts instead.
    """
    return {
        "durable_name": subjects.consumer(model, lane),
        "description": f"{model} ({_LANES.get(lane, lane)})",
        "filter_subject": subjects.jobs(model, lane),
        "ack_policy": "explicit",
        "ack_wait": int(ack_wait * NS),
        "max_deliver": -1,
        "max_ack_pending": MAX_ACK_PENDING,
        "max_waiting": 4096,  # a pull waits for each free slot; the broker's default is 512
        "num_replicas": replicas,
        "priority_groups": [subjects.GROUP],
        "priority_policy": "prioritized",
        "metadata": {"headrace.model": model, "headrace.lane": lane},
    }
