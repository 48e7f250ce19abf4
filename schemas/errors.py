"""All errors that a client can get, as one tree.

::

    HeadraceError
    ├── InvalidRequest           400  the request cannot be served as it is
    │   ├── ContextLengthExceeded 400
    │   ├── UnsupportedEndpoint  400  no engine of the model has this endpoint
    │   ├── UnsupportedParameter 400  no engine of the model honours the field
    │   ├── NoProvider           400  it asks for or needs a provider, but may not use any
    │   ├── MethodNotAllowed     405
    │   ├── IdempotencyConflict  409  its idempotency key belongs to another request
    │   ├── KeyExists            409  the name of a new key is taken
    │   ├── RequestTimeout       408  it did not come in time
    │   ├── BodyTooLarge         413
    │   ├── UnsupportedCoding    415  its body is compressed in a way that is not read here
    │   └── HeadTooLarge         431
    ├── Unauthorized             401  no key, or a wrong one
    │   ├── KeyExpired           401
    │   └── KeyMistyped          401
    ├── InsufficientCredits      402  the account's credits do not cover the cost
    ├── Forbidden                403  a signed address that is not ours, or has expired
    │   ├── InsufficientScope    403  the key is known, and may not do this
    │   └── UnknownHost          421  it names a host that is not this one
    ├── NotFound                 404  no such path
    │   ├── ModelNotFound        404  no such model
    │   ├── NodeNotFound         404  no node has the name, or the labels, that it names
    │   └── RequestNotFound      404  no request of this id waits or runs
    ├── QueueFull                429  the client may try again after `retry_after`
    │   ├── OutOfRoom            429  too many large bodies are held already
    │   └── TooManyConnections   429  from one address, or in all
    ├── TooManyAttempts          429  wrong keys came from this address
    ├── RateLimited              429  a limit of its key or account is reached
    ├── QuotaExceeded            429  one of a month is
    ├── EngineFailed             502  every attempt failed; the last reason is in the message
    │   ├── StreamInterrupted    502  the engine was lost after tokens had been sent
    │   ├── ProviderFailed       502  all providers that may take the request failed
    │   └── InvalidStructuredOutput 502  the answer does not fit the schema, twice
    ├── Unavailable              503
    │   ├── NoWorker             503  the model is known, but nobody serves it now
    │   ├── BrokerUnavailable    503
    │   ├── KeysUnavailable      503  the store of keys cannot be asked
    │   ├── LimitsUnavailable    503  what is used of limits cannot be read
    │   └── ShuttingDown         503
    ├── DeadlineExceeded         504  no answer within the request's total deadline
    ├── NotKept                  504  only a kept answer would do, and there is none
    ├── ClientGone               499  never sent: the client left
    │   ├── RequestCancelled     499  somebody else ended the request
    │   └── ClientTooSlow        499  the client does not read its answer
    └── Internal                 500  a fault of ours

`type` is one of OpenAI's documented values; `code` is our own if OpenAI has none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import orjson


class HeadraceError(Exception):
    """Root of the tree. `source`: who made the error, ``ingress``, ``worker``, ``engine`` or
    ``fallback``. `told`: headers about what was done for the request before it failed."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        source: str = "ingress",
        told: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
        self.source = source
        self.told = told or {}

    def fields(self) -> dict[str, Any]:
        """OpenAI's four fields of an error, and `source`."""
        return {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
            "source": self.source,
        }

    def json(self) -> bytes:
        """The error in OpenAI's envelope."""
        return orjson.dumps({"error": self.fields()})

    def headers(self) -> dict[str, str]:
        headers = {"x-headrace-error-source": self.source, **self.told}
        if self.retry_after is not None:
            # Whole seconds, never too few, and at least 1, so that no client asks again at once.
            # What is left of a difference of times is none: 60.0000001 s are 60.
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after - 1e-3)))
        return headers


class InvalidRequest(HeadraceError):
    code = "invalid_request"
    status = 400
    type = "invalid_request_error"


class ContextLengthExceeded(InvalidRequest):
    code = "context_length_exceeded"


class UnsupportedEndpoint(InvalidRequest):
    code = "unsupported_endpoint"


class UnsupportedParameter(InvalidRequest):
    code = "unsupported_parameter"


class NoProvider(InvalidRequest):
    code = "no_provider"


class MethodNotAllowed(InvalidRequest):
    code = "method_not_allowed"
    status = 405


class RequestTimeout(InvalidRequest):
    code = "request_timeout"
    status = 408
    retryable = True


class IdempotencyConflict(InvalidRequest):
    code = "idempotency_key_reused"
    status = 409


class KeyExists(InvalidRequest):
    code = "key_exists"
    status = 409


class BodyTooLarge(InvalidRequest):
    code = "request_too_large"
    status = 413


class UnsupportedCoding(InvalidRequest):
    code = "unsupported_content_encoding"
    status = 415


class HeadTooLarge(InvalidRequest):
    code = "headers_too_large"
    status = 431


class Unauthorized(HeadraceError):
    code = "invalid_api_key"
    status = 401
    type = "invalid_request_error"


class KeyExpired(Unauthorized):
    code = "key_expired"


class KeyMistyped(Unauthorized):
    code = "mistyped_api_key"


class InsufficientCredits(HeadraceError):
    code = "insufficient_credits"
    status = 402
    type = "insufficient_quota"


class Forbidden(HeadraceError):
    code = "forbidden"
    status = 403
    type = "invalid_request_error"


class InsufficientScope(Forbidden):
    code = "insufficient_scope"


class UnknownHost(Forbidden):
    code = "unknown_host"
    status = 421


class NotFound(HeadraceError):
    code = "not_found"
    status = 404
    type = "invalid_request_error"


class ModelNotFound(NotFound):
    code = "model_not_found"


class NodeNotFound(NotFound):
    code = "node_not_found"


class RequestNotFound(NotFound):
    code = "request_not_found"


class QueueFull(HeadraceError):
    code = "queue_full"
    status = 429
    type = "rate_limit_error"
    retryable = True


class OutOfRoom(QueueFull):
    code = "out_of_room"


class TooManyConnections(QueueFull):
    code = "too_many_connections"


class TooManyAttempts(HeadraceError):
    code = "too_many_attempts"
    status = 429
    type = "rate_limit_error"
    retryable = True


class RateLimited(HeadraceError):
    code = "rate_limit_exceeded"
    status = 429
    type = "rate_limit_error"
    retryable = True


class QuotaExceeded(HeadraceError):
    code = "insufficient_quota"
    status = 429
    type = "insufficient_quota"


class EngineFailed(HeadraceError):
    code = "engine_failed"
    status = 502
    retryable = True


class StreamInterrupted(EngineFailed):
    code = "stream_interrupted"


class ProviderFailed(EngineFailed):
    code = "provider_failed"


class InvalidStructuredOutput(EngineFailed):
    code = "invalid_structured_output"


class Unavailable(HeadraceError):
    code = "unavailable"
    status = 503
    type = "service_unavailable_error"
    retryable = True


class NoWorker(Unavailable):
    code = "no_worker"


class BrokerUnavailable(Unavailable):
    code = "broker_unavailable"


class KeysUnavailable(Unavailable):
    code = "keys_unavailable"


class LimitsUnavailable(Unavailable):
    code = "limits_unavailable"


class ShuttingDown(Unavailable):
    code = "shutting_down"


class DeadlineExceeded(HeadraceError):
    code = "deadline_exceeded"
    status = 504
    type = "timeout_error"
    retryable = True


class NotKept(HeadraceError):
    code = "not_kept"
    status = 504
    type = "timeout_error"


class ClientGone(HeadraceError):
    code = "client_gone"
    status = 499


class RequestCancelled(ClientGone):
    """Somebody who may do so ended the request. The status is one after which no client sends the
    same again by itself."""

    code = "request_cancelled"


class ClientTooSlow(ClientGone):
    code = "client_too_slow"


class Internal(HeadraceError):
    pass


def _tree(root: type[HeadraceError]) -> list[type[HeadraceError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _tree(child))]


CODES: dict[str, type[HeadraceError]] = {kind.code: kind for kind in _tree(HeadraceError)}
"""The class of each code. A worker's `Fail` frame names the code, and the ingress looks it up."""


def from_code(code: str, message: str, *, source: str) -> HeadraceError:
    """An error with `code`; an unknown code (from a newer worker) becomes EngineFailed."""
    return CODES.get(code, EngineFailed)(message, source=source)
