"""What stolen logins try at the broker: one table, that `docs/security.md` shows and
`tests/integration/deploy/test_forbidden.py` does. A node's own name is `NODE`, and it was granted
the model `MINE`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from schemas import subjects

NODE, OTHER = "thief", "honest"
MINE, THEIRS = "mine", "echo"
INVITE = "1a2b"

WORKER, JOINED, INGRESS, FALLBACK, MONITOR, CONSOLE, STRANGER, EVICTED, INVITED = WHO = (
    "worker", "joined node", "ingress", "fallback", "monitor", "console", "stranger",
    "evicted node", "open invitation",
)  # fmt: skip
MEMBERS = (WORKER, JOINED, FALLBACK)

API = "$JS.API"
DELETE_JOBS = f"{API}.STREAM.DELETE.{subjects.JOBS_STREAM}"
_NEXT = f"{API}.CONSUMER.MSG.NEXT.{subjects.JOBS_STREAM}"
_CREATE = f"{API}.CONSUMER.CREATE.{subjects.JOBS_STREAM}"


def pull(model: str, lane: str) -> str:
    return f"{_NEXT}.{subjects.consumer(model, lane)}"


def ack(model: str, lane: str, stream: str = subjects.JOBS_STREAM) -> str:
    return f"$JS.ACK.{stream}.{subjects.consumer(model, lane)}.1.1.1.1700000000000000000.0"


class Act(NamedTuple):
    """`hears`: it subscribes, and does not publish. `what`: in words."""

    who: str
    what: str
    subject: str
    hears: bool = False


def _of_members(who: str) -> Iterator[Act]:
    """What nobody may do that holds jobs."""
    yield Act(who, "delete the stream of jobs", DELETE_JOBS)
    yield Act(who, "purge it", f"{API}.STREAM.PURGE.JOBS")
    yield Act(who, "change it", f"{API}.STREAM.UPDATE.JOBS")
    yield Act(who, "copy it", f"{API}.STREAM.SNAPSHOT.JOBS")
    yield Act(who, "read a waiting job", f"{API}.STREAM.MSG.GET.JOBS")
    yield Act(who, "read a waiting job directly", f"{API}.DIRECT.GET.JOBS")
    yield Act(who, "delete a waiting job", f"{API}.STREAM.MSG.DELETE.JOBS")
    yield Act(who, "make a consumer, as one that pushes", f"{_CREATE}.push")
    yield Act(who, "make one without bodies of the model", f"{_CREATE}.{THEIRS}-i4")
    yield Act(who, "make one in the way of old clients", f"{API}.CONSUMER.DURABLE.CREATE.JOBS.c")
    yield Act(who, "delete the consumer of a model", f"{API}.CONSUMER.DELETE.JOBS.{THEIRS}-i4")
    yield Act(who, "pause it", f"{API}.CONSUMER.PAUSE.JOBS.{THEIRS}-i4")
    yield Act(who, "list all consumers", f"{API}.CONSUMER.LIST.JOBS")
    yield Act(who, "publish a job", subjects.jobs(THEIRS, "i", "tests"))
    yield Act(who, "ack what is of another stream", ack(THEIRS, "i", subjects.DEAD_STREAM))
    yield Act(who, "pull dead letters", f"{API}.CONSUMER.MSG.NEXT.DEAD.c")
    yield Act(who, "read keys", f"{API}.DIRECT.GET.KEYS.keys.local")
    yield Act(who, "write a key", "keys.local")
    yield Act(who, "grant credits", subjects.ASK_GRANT)
    yield Act(who, "book credits", "credits.local")
    yield Act(who, "count usage", "usage.in-1-1")
    yield Act(who, "write an answer that is kept", "answers.a")
    yield Act(who, "write one for all who ask the same", subjects.kept("a"))
    yield Act(who, "read one of these", f"{API}.DIRECT.GET.CACHE.{subjects.kept('a')}")
    yield Act(who, "cancel a job of another holder", f"c.{OTHER}.w1")
    yield Act(who, "speak to an ingress as the broker", "_I.in-1.j.a-0")
    yield Act(who, "speak to an ingress as another ingress", subjects.slots_for("in-1"))
    yield Act(who, "say how the queue of another ingress stands", "fq.echo.i4")
    yield Act(who, "say as an ingress what is in whose cache", subjects.CACHES)
    yield Act(who, "write the record of a node", subjects.node(NODE))
    yield Act(who, "invite somebody", subjects.invite(INVITE))
    yield Act(who, "read the records of nodes", f"{API}.DIRECT.GET.NODES")
    yield Act(who, "ask to join", subjects.join(INVITE))
    yield Act(who, "ask for all processes", "$SRV.PING")
    yield Act(who, "tell of the end of a connection", subjects.DISCONNECTS)
    yield Act(who, "hear all", ">", True)
    yield Act(who, "hear frames of others", subjects.ALL_FRAMES, True)
    yield Act(who, "hear bodies of others", subjects.ALL_BODIES, True)
    yield Act(who, "hear what the broker tells ingresses", "_I.>", True)
    yield Act(who, "hear jobs as they are published", subjects.EVERY_JOB, True)
    yield Act(who, "hear who joins", subjects.ALL_JOINS, True)
    yield Act(who, "be found as an ingress", "$SRV.INFO.headrace-ingress", True)
    yield Act(who, "be found as everything", "$SRV.>", True)


def _of_workers(who: str) -> Iterator[Act]:
    yield Act(who, "take jobs to providers: say that credits ran out", "alerts.a")
    yield Act(who, "hear what no worker takes", subjects.ALL_WANTS, True)
    yield Act(who, "answer for the ledger", subjects.ASK_LEDGER, True)


def _of_the_joined() -> Iterator[Act]:
    who = JOINED
    yield Act(who, "pull a model that it was not granted", pull(THEIRS, "i"))
    yield Act(who, "pull a batch of it", pull(THEIRS, "b"))
    yield Act(who, "pull jobs for providers", pull(MINE, "f"))
    yield Act(who, "pull what is for another node", pull(MINE, subjects.pinned(OTHER)))
    yield Act(who, "ack a job of a model of others", ack(THEIRS, "i"))
    yield Act(who, "ack what is for another node", ack(MINE, subjects.pinned(OTHER)))
    yield Act(who, "send a card of another node", f"hb.{OTHER}.w1")
    yield Act(who, "claim a job as another node", f"r.in-1.{OTHER}.0")
    yield Act(who, "ask for a body as another node", f"b.in-1.{OTHER}.0")
    yield Act(who, "change the key of another node", subjects.rotation(OTHER))
    yield Act(who, "hear what another holder is told", f"c.{OTHER}.w2", True)
    yield Act(who, "hear what all holders are told", "c.>", True)
    yield Act(who, "hear what another node pulls", f"_W.{OTHER}.>", True)
    yield Act(who, "hear what all pull", "_W.>", True)


def _of_ingresses() -> Iterator[Act]:
    who = INGRESS
    for stream in ("JOBS", "USAGE", "DEAD"):
        yield Act(who, f"delete the stream {stream}", f"{API}.STREAM.DELETE.{stream}")
        yield Act(who, f"purge {stream}", f"{API}.STREAM.PURGE.{stream}")
    yield Act(who, "put back a copy of the stream", f"{API}.STREAM.RESTORE.JOBS")
    yield Act(who, "make a stream of its own", f"{API}.STREAM.CREATE.OTHER")
    yield Act(who, "take back what was used", f"{API}.STREAM.MSG.DELETE.USAGE")
    yield Act(who, "speak as a holder", f"r.in-1.{OTHER}.0")
    yield Act(who, "send a card", f"hb.{OTHER}.w1")
    yield Act(who, "pull jobs", pull(THEIRS, "i"))
    yield Act(who, "put something into the inbox of a worker", f"_W.{OTHER}.w1.p.0")
    yield Act(who, "read keys", f"{API}.DIRECT.GET.KEYS.keys.local")
    yield Act(who, "write a key", "keys.local")
    yield Act(who, "grant credits", subjects.ASK_GRANT)
    yield Act(who, "book credits", "credits.local")
    yield Act(who, "answer for the ledger", subjects.ASK_LEDGER, True)
    yield Act(who, "let a node in", subjects.node(NODE))
    yield Act(who, "invite somebody", subjects.invite(INVITE))
    yield Act(who, "hear who joins", subjects.ALL_JOINS, True)
    yield Act(who, "hear what holders are told", "c.>", True)
    yield Act(who, "hear all", ">", True)


def _of_who_looks_on(who: str) -> Iterator[Act]:
    yield Act(who, "delete the stream of jobs", DELETE_JOBS)
    yield Act(who, "read a job", f"{API}.STREAM.MSG.GET.JOBS")
    yield Act(who, "read a job directly", f"{API}.DIRECT.GET.JOBS.jobs.echo.i4.tests")
    yield Act(who, "pull a job", pull(THEIRS, "i"))
    yield Act(who, "ack a job", ack(THEIRS, "i"))
    yield Act(who, "publish a job", subjects.jobs(THEIRS, "i", "tests"))
    yield Act(who, "make a consumer", f"{_CREATE}.c")
    yield Act(who, "send a card", f"hb.{OTHER}.w1")
    yield Act(who, "cancel a job", f"c.{OTHER}.w1")
    yield Act(who, "let a node in", subjects.node(NODE))
    yield Act(who, "hear frames", subjects.ALL_FRAMES, True)
    yield Act(who, "hear all", ">", True)


def _of_monitors() -> Iterator[Act]:
    yield from _of_who_looks_on(MONITOR)
    yield Act(MONITOR, "have the hub evict a node", subjects.node_change("evict"))
    yield from _of_who_looks_on(CONSOLE)
    yield Act(CONSOLE, "let itself in", subjects.join(INVITE))
    yield Act(CONSOLE, "answer for the hub", subjects.ALL_NODE_CHANGES, True)
    yield Act(CONSOLE, "read keys", f"{API}.DIRECT.GET.KEYS.keys.local")
    yield Act(CONSOLE, "grant credits", subjects.ASK_GRANT)


def _of_the_invited() -> Iterator[Act]:
    who = INVITED
    yield Act(who, "use another's invitation", subjects.join("ffff"))
    yield Act(who, "hear who else joins", subjects.ALL_JOINS, True)
    yield Act(who, "hear what others are told", f"{subjects.INBOX_JOIN}.>", True)
    yield Act(who, "write its own record", subjects.node(NODE))
    yield Act(who, "prolong its invitation", subjects.invite(INVITE))
    yield Act(who, "pull a job", pull(MINE, "i"))
    yield Act(who, "send a card", f"hb.{NODE}.w1")
    yield Act(who, "order a node to pause", f"c.{OTHER}.w1")
    yield Act(who, "delete the stream of jobs", DELETE_JOBS)
    yield Act(who, "hear all", ">", True)


def _all() -> Iterator[Act]:
    for who in MEMBERS:
        yield from _of_members(who)
    yield from _of_workers(WORKER)
    yield from _of_workers(JOINED)
    yield from _of_the_joined()
    yield from _of_ingresses()
    yield from _of_monitors()
    yield from _of_the_invited()


DENIED = tuple(_all())
"""The broker refuses each of these, and tells who tried."""

ASKED = {
    WORKER: (pull(THEIRS, "i"), ack(THEIRS, "i"), "r.in-1.honest.0", "hb.honest.w1"),
    JOINED: (pull(MINE, "i"), ack(MINE, "i"), f"r.in-1.{NODE}.0", f"hb.{NODE}.w1"),
    FALLBACK: (pull(THEIRS, "f"), ack(THEIRS, "f"), "alerts.x", "b.in-1.honest.0"),
    INGRESS: (
        subjects.jobs(THEIRS, "i", "tests"), "usage.in-1-1", "dead.m", "answers.a", "alerts.a",
        f"{API}.STREAM.INFO.JOBS", f"{API}.STREAM.MSG.GET.JOBS", f"{API}.CONSUMER.LIST.JOBS",
        f"{_CREATE}.{THEIRS}-i4", f"{API}.DIRECT.GET.NODES", ack(THEIRS, "i"), "c.honest.w1",
        "fb.want.m", subjects.ASK_LEDGER,
        subjects.kept("a"), f"{API}.DIRECT.GET.CACHE.{subjects.kept('a')}",
    ),
    MONITOR: (
        f"{API}.STREAM.INFO.JOBS", f"{API}.CONSUMER.LIST.JOBS", subjects.ASK_QUEUES, "$SRV.PING",
    ),
    CONSOLE: (f"{API}.STREAM.INFO.JOBS", subjects.node_change("evict"), "$SRV.PING"),
    INVITED: (subjects.join(INVITE),),
}  # fmt: skip
"""What each may say, which is tried with the replies below: the server publishes replies with its
own rights."""

REPLIES = (
    DELETE_JOBS,
    f"{API}.STREAM.PURGE.JOBS",
    f"{API}.STREAM.DELETE.KEYS",
    f"{API}.CONSUMER.DELETE.JOBS.{THEIRS}-i4",
    subjects.jobs(THEIRS, "i", "tests"),
    "usage.in-1-1",
    subjects.node(NODE),
    "keys.local",
    "credits.local",
    "c.honest.w1",
    "_I.in-1.j.a-0",
)
"""Foreign subjects that are named as the place of the reply: without effect."""
