"""Every metric, by its one name. Each process exposes the default registry at ``/metrics``."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import version

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

# A further series for each counter and histogram, which says when it was made: a page without them
# is a third smaller, and Prometheus makes nothing of them by default.
disable_created_metrics()  # type: ignore[no-untyped-call]

_WAITS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_TOKENS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5)

OTHER = "other"
"""The value of a label for all that have none of their own."""


class Names:
    """The values of a label that come from elsewhere: the first `most` of them, and `OTHER` for all
    that come later. A series costs memory here and at Prometheus, and is kept for ever."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def __call__(self, name: str) -> str:
        if name in self._known:
            return name
        if len(self._known) >= self._most:
            return OTHER
        self._known.add(name)
        return name


_KNOWN = 4096
"""Names that are looked up without a step of ours."""
model_label = lru_cache(_KNOWN)(Names(256))
node_label = lru_cache(_KNOWN)(Names(64))
MOST_ACCOUNTS = 64

BUILD = Gauge("headrace_build_info", "1, with the release of this process.", ("version",))
REQUESTS = Counter("headrace_requests_total", "Requests answered.", ("endpoint", "model", "status"))
ERRORS = Counter("headrace_errors_total", "Errors sent to clients.", ("code",))
LIMITED = Counter(
    "headrace_requests_limited_total",
    "Requests refused at a limit of a key or account.",
    ("of", "limit"),
)
TTFT = Histogram(
    "headrace_ttft_seconds",
    "Request received to first byte of the answer.",
    ("model",),
    buckets=_WAITS,
)
QUEUE_WAIT = Histogram(
    "headrace_queue_wait_seconds",
    "Job published to claim accepted.",
    ("model", "lane"),
    buckets=_WAITS,
)
WAITING = Gauge("headrace_jobs_waiting", "Jobs of this ingress that wait.", ("model", "lane"))
OLDEST = Gauge(
    "headrace_oldest_wait_seconds",
    "How long the oldest job of this ingress that waits has been there; 0: none waits.",
    ("model", "lane"),
)
GIVEN = Counter(
    "headrace_slots_given_total",
    "Slots that were for another job than they were claimed with, since it was its turn.",
    ("of",),
)
AFFINITY = Counter(
    "headrace_affinity_total",
    "Long prompts of models that several engines serve: whether they met their cache.",
    ("model", "outcome"),
)
AFFINITY_DECLINED = Counter(
    "headrace_affinity_declined_total",
    "Jobs that no worker took where their cache was, and that went to all.",
    ("model",),
)
CACHED_TOKENS = Counter(
    "headrace_cached_tokens_total", "Prompt tokens that engines found in their caches.", ("model",)
)
PROMOTED = Counter(
    "headrace_jobs_promoted_total",
    "Batch jobs that waited too long, now interactive.",
    ("model",),
)
INTER_TOKEN = Histogram(
    "headrace_inter_token_seconds",
    "First byte to end of a streamed answer, over its tokens but the first: one mean an answer.",
    ("model",),
    buckets=_TOKENS,
)
DURATION = Histogram(
    "headrace_request_duration_seconds",
    "Request received to last byte sent.",
    ("model",),
    buckets=_WAITS,
)
TOKENS = Counter("headrace_tokens_total", "Tokens that engines counted.", ("model", "kind"))
SERVED = Counter(
    "headrace_node_requests_total", "Requests by the node that had them at their end.", ("node",)
)
TAKEOVERS = Counter(
    "headrace_takeovers_total",
    "Jobs that another holder took over from one that was lost, failed or was slow.",
    ("model",),
)
IN_FLIGHT = Gauge("headrace_jobs_in_flight", "Jobs published and not yet answered.")
ATTEMPTS = Counter("headrace_attempts_total", "Attempts by their end.", ("model", "end"))
CACHE = Counter(
    "headrace_cache_requests_total",
    "Requests that a kept answer might do for, by what became of them.",
    ("result",),
)
CACHE_BYTES = Gauge("headrace_cache_bytes", "Bytes of answers that this ingress keeps in memory.")
CANCELS = Counter("headrace_cancels_total", "Jobs cancelled since the client left.")
REVOKED = Counter("headrace_leases_revoked_total", "Leases taken back from a holder.", ("why",))
FENCED = Counter("headrace_fenced_frames_total", "Frames of a holder that lost its lease.")
RESENDS = Counter("headrace_resends_total", "Times a hole in the frames was asked for again.")
BODIES_REFUSED = Counter(
    "headrace_bodies_refused_total", "Requests refused since too many bodies are held."
)
TURNED_AWAY = Counter(
    "headrace_connections_refused_total", "Connections for which there was no room."
)
SLOTS = Gauge("headrace_slots", "Slots of an engine.", ("engine",))
SLOTS_BUSY = Gauge("headrace_slots_busy", "Slots of an engine that run a job.", ("engine",))
ENGINE_UP = Gauge("headrace_engine_up", "1 while the engine is ready.", ("engine",))
TASK_FAULTS = Counter(
    "headrace_task_faults_total", "Long-lived tasks that failed and were begun again.", ("task",)
)
BUS_RECONNECTS = Counter("headrace_bus_reconnects_total", "Reconnections to the broker.")
BUS_DROPPED = Counter(
    "headrace_bus_dropped_total", "Messages dropped past a buffer's limit.", ("direction",)
)
LEFT = Counter("headrace_jobs_offered_total", "Jobs offered to providers.", ("model", "why"))
PROVIDER_SECONDS = Histogram(
    "headrace_provider_duration_seconds", "Answers of providers.", ("provider",), buckets=_WAITS
)
PROVIDER_FAULTS = Counter(
    "headrace_provider_faults_total", "Calls that a provider did not answer.", ("provider", "why")
)
CREDITS_AVAILABLE = Gauge(
    "headrace_credits_available",
    "Credits that an account can use, in units of the currency.",
    ("account",),
)
CREDITS_RESERVED = Gauge(
    "headrace_credits_reserved",
    "Credits in open reservations of an account, in units of the currency.",
    ("account",),
)
CHARGED = Counter(
    "headrace_charged_total", "Charged for calls, in units of the currency.", ("provider",)
)
ALERTS = Counter(
    "headrace_alerts_total", "Thresholds of budgets that were reached.", ("budget", "threshold")
)
WEBHOOKS = Counter("headrace_webhooks_total", "Alerts sent to the webhook.", ("outcome",))
OTEL_DROPPED = Counter(
    "headrace_otel_dropped_total",
    "Not told to OpenTelemetry's endpoint, which was away or too slow.",
    ("what",),
)
UNCHARGED = Counter(
    "headrace_uncharged_total",
    "What calls cost beyond their reservations, in units of the currency.",
    ("provider",),
)

BUILD.labels(version("headrace")).set(1)
