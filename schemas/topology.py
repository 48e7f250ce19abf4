"""Streams and consumers as the broker's own JSON, so that no client library is needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas import subjects
from schemas.settings import Cache, Jobs

NS = 1_000_000_000
MIN_SERVER = (2, 12)
"""`prioritized` pulls, counters and per-message TTLs came with nats-server 2.12."""

MAX_AGE = 26 * 3600
"""Seconds. Batch jobs may wait a day; interactive jobs have a shorter TTL of their own."""
MAX_ACK_PENDING = 5000
MAX_CONSUMERS = 10_000
"""One for each model and lane. Without a limit of its own the broker takes 1,000 for a stream (m),
and engines with many models would leave none to others."""
FORGET = 7 * 24 * 3600.0
"""Seconds after which a model is forgotten that nobody serves."""
TTL_SLACK = 5.0
"""Seconds that a job outlives its total deadline, so that its holder can still ack it."""
USAGE_AGE = 400 * 24 * 3600
"""Seconds for which rows of usage are kept: a year and a month."""
LIMITS_AGE = 40 * 24 * 3600
"""Seconds for which it is kept what an unused key used: more than a month, whose sums it has."""
CREDITS_WINDOW = 2 * 3600
"""Seconds for which the broker remembers ids of entries, even over a restart (measured)."""
KEY_SIZE = 64 * 1024
"""Bytes that a record of a key may have."""
NODE_SIZE = 1024 * 1024
"""Bytes that a record of a node may have, with all models that it serves."""
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
            "description": "Headrace jobs: waiting and running, one subject a model, lane, tenant",
            # Processes of an earlier version may still publish here while a house is upgraded.
            "subjects": [subjects.EARLIER_JOBS, subjects.ALL_JOBS],
            "retention": "workqueue",
            "storage": "file",
            "num_replicas": replicas,
            "discard": "new",
            "discard_new_per_subject": True,  # a tenant's full queue refuses the tenant's jobs only
            "max_msgs_per_subject": jobs.depth_of_one,
            "max_age": MAX_AGE * NS,
            "max_consumers": MAX_CONSUMERS,
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
        {
            **_kept(subjects.ALERTS_STREAM, subjects.ALL_ALERTS, replicas, USAGE_AGE, 16),
            "description": "Headrace alerts: each once, as thresholds of budgets are reached",
        },
    ]


def cache(settings: Cache, replicas: int) -> dict[str, Any]:
    """The configuration of the stream of answers for requests that would get the same again."""
    mebibytes = settings.store // 2**20
    kept = _kept(subjects.CACHE_STREAM, subjects.ALL_KEPT, replicas, settings.ttl, mebibytes)
    return {
        **kept,
        "description": "Headrace cache: answers to requests that would get the same again",
        "max_msgs_per_subject": 1,
        "duplicate_window": int(min(120, settings.ttl) * NS),
        "allow_direct": True,
    }


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


def keys(replicas: int) -> dict[str, Any]:
    """The configuration of the store of keys: of each key and account what was written last."""
    return {
        "name": subjects.KEYS_STREAM,
        "description": "Headrace keys: one message a key or account, the last one counts",
        "subjects": [subjects.ALL_KEYS, subjects.ALL_ACCOUNTS, subjects.PEPPER],
        "max_msg_size": KEY_SIZE,
        **_records(replicas),
    }


def nodes(replicas: int) -> dict[str, Any]:
    """The configuration of the stream of nodes that joined, and of invitations. Each record is also
    published for those who follow: they need no consumer, which could be made to push anywhere."""
    return {
        "name": subjects.NODES_STREAM,
        "description": "Headrace nodes and invitations: the last record of each counts",
        "subjects": [subjects.ALL_NODES, subjects.ALL_INVITES],
        "max_msg_size": NODE_SIZE,
        "allow_msg_ttl": True,  # for those that are over
        "republish": {"src": ">", "dest": f"{subjects.CHANGES}.>"},
        **_records(replicas),
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


def webhook(replicas: int) -> dict[str, Any]:
    """The configuration of the consumer of alerts that are sent to a webhook. Alerts from before
    there was one are not sent."""
    return {
        "durable_name": subjects.WEBHOOK,
        "description": "alerts that are sent to the webhook",
        "deliver_policy": "new",
        "ack_policy": "explicit",
        "ack_wait": 30 * NS,
        "max_deliver": -1,
        "num_replicas": replicas,
        "priority_groups": [subjects.GROUP],
        "priority_policy": "prioritized",
    }


def limits(replicas: int) -> dict[str, Any]:
    """The configuration of the stream of what is used of limits: one record a key or account."""
    return {
        "name": subjects.LIMITS_STREAM,
        "description": "Headrace limits: what is used of them, the last record a key or account",
        "subjects": [subjects.ALL_LIMITS],
        "max_age": LIMITS_AGE * NS,
        **_records(replicas),
    }


def _records(replicas: int) -> dict[str, Any]:
    """What streams have that keep the last record of each subject, and give none away."""
    return {
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        "max_msgs_per_subject": 1,
        "allow_direct": True,
        "deny_delete": True,
        "deny_purge": True,
    }


def consumer(
    model: str, lane: str, ack_wait: float, replicas: int, forget: float = FORGET
) -> dict[str, Any]:
    """The configuration of the consumer of one model and lane. `forget`: seconds after which it
    goes if nobody pulls from it; 0: it never does.

    `max_deliver` is −1, because a message past a limit would stay in the work queue for ever
    without an advisory. The ingress counts attempts instead.
    """
    return {
        "durable_name": subjects.consumer(model, lane),
        "description": f"{model} ({subjects.lane_name(lane)})",
        "filter_subject": subjects.all_jobs(model, lane),
        "ack_policy": "explicit",
        "ack_wait": int(ack_wait * NS),
        "max_deliver": -1,
        "max_ack_pending": MAX_ACK_PENDING,
        "max_waiting": 4096,  # a pull waits for each free slot; the broker's default is 512
        "inactive_threshold": int(forget * NS),
        "num_replicas": replicas,
        "priority_groups": [subjects.GROUP],
        "priority_policy": "prioritized",
        "metadata": {"headrace.model": model, "headrace.lane": lane},
    }
