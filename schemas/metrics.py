"""Every metric, by its one name. Each process exposes the default registry at ``/metrics``."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_WAITS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

REQUESTS = Counter("headrace_requests_total", "Requests answered.", ("endpoint", "model", "status"))
ERRORS = Counter("headrace_errors_total", "Errors sent to clients.", ("code",))
TTFT = Histogram(
    "headrace_ttft_seconds",
    "Request received to first byte of the answer.",
    ("model",),
    buckets=_WAITS,
)
QUEUE_WAIT = Histogram(
    "headrace_queue_wait_seconds", "Job published to claim accepted.", ("model",), buckets=_WAITS
)
DURATION = Histogram(
    "headrace_request_seconds", "Request received to last byte sent.", ("model",), buckets=_WAITS
)
TOKENS = Counter("headrace_tokens_total", "Tokens that engines counted.", ("model", "kind"))
IN_FLIGHT = Gauge("headrace_in_flight", "Jobs published and not yet answered.")
ATTEMPTS = Counter("headrace_attempts_total", "Attempts by their end.", ("model", "end"))
CANCELS = Counter("headrace_cancels_total", "Jobs cancelled since the client left.")
REVOKED = Counter("headrace_revoked_total", "Leases taken back from a holder.", ("why",))
FENCED = Counter("headrace_fenced_frames_total", "Frames of a holder that lost its lease.")
RESENDS = Counter("headrace_resends_total", "Times a hole in the frames was asked for again.")
SLOTS = Gauge("headrace_slots", "Slots of an engine.", ("engine",))
SLOTS_BUSY = Gauge("headrace_slots_busy", "Slots of an engine that run a job.", ("engine",))
ENGINE_UP = Gauge("headrace_engine_up", "1 while the engine is ready.", ("engine",))
BUS_RECONNECTS = Counter("headrace_bus_reconnects_total", "Reconnections to the broker.")
BUS_DROPPED = Counter(
    "headrace_bus_dropped_total", "Messages dropped past a buffer's limit.", ("direction",)
)
LEFT = Counter("headrace_left_total", "Jobs offered to providers.", ("model", "why"))
PROVIDER_SECONDS = Histogram(
    "headrace_provider_seconds", "Answers of providers.", ("provider",), buckets=_WAITS
)
PROVIDER_FAULTS = Counter(
    "headrace_provider_faults_total", "Calls that a provider did not answer.", ("provider", "why")
)
CHARGED = Counter(
    "headrace_charged_micro_total", "Micro-units of the currency charged.", ("provider",)
)
