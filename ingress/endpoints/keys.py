"""``/admin/keys`` and ``/admin/accounts``, for keys of the scope `admin`: the same as ``headrace
key``. A secret is in the answer that makes it, and nowhere else."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import wraps
from typing import Any

import orjson
import structlog
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from ingress.context import Context, context
from ingress.http.auth import need_scope
from ingress.http.body import need_json, read_body
from ingress.keys import changes, pages
from ingress.keys.changes import Made
from ingress.keys.store import KeyStore
from ingress.limits.refusals import KEY
from schemas.bus import BusError
from schemas.errors import InvalidRequest, KeysUnavailable, LimitsUnavailable, NotFound, Unavailable
from schemas.jobs import CodecError
from schemas.keys import ADMIN
from schemas.topology import KEY_SIZE

log = structlog.get_logger("keys")

_CREATED = 201
_IDEMPOTENCY = "idempotency-key"
Serve = Callable[[Request], Awaitable[Response]]
Do = Callable[[Request, KeyStore], Awaitable[Response]]


def _for_admins(do: Do) -> Serve:
    """Raises Unauthorized, InsufficientScope, KeysUnavailable, Unavailable, and what `do` does."""

    @wraps(do)
    async def serve(request: Request) -> Response:
        need_scope(request, ADMIN)
        if _IDEMPOTENCY in request.headers:
            why = (
                "no answer with a secret is stored. A name is given once, so nothing is made twice."
            )
            raise InvalidRequest(f"Idempotency-Key: {why}", param="Idempotency-Key")
        book = context(request).keys.book
        if book is None:
            raise KeysUnavailable("This ingress has no login for the store of keys: see [vault].")
        try:
            return await do(request, book.store)
        except BusError as fault:
            why = f"The store of keys cannot be asked now: {fault}."
            raise KeysUnavailable(why, retry_after=1) from None
        except ValidationError:
            # `from None`: the exception has the text that could not be read.
            raise Unavailable("The store has a record of another release.") from None

    return serve


@_for_admins
async def index(request: Request, store: KeyStore) -> Response:
    """``GET /admin/keys``; with ``?revoked=true`` also those that are no more."""
    now, gone = time.time(), request.query_params.get("revoked") == "true"
    kept = [each for each in await store.keys() if gone or each.revoked is None]
    found = [pages.of_configured(key) for key in context(request).keys.configured]
    found += [pages.of_record(each, now) for each in kept]
    return _json({"object": "list", "data": found})


@_for_admins
async def create(request: Request, store: KeyStore) -> Response:
    """``POST /admin/keys`` with ``{"name": …}`` and fields of the policy; with ``secret``, one that
    exists already."""
    said = await _object(request)
    name, secret = _text(said, "name"), _text(said, "secret") if "secret" in said else ""
    policy = {field: value for field, value in said.items() if field not in ("name", "secret")}
    taken = [key.name for key in context(request).keys.configured]
    made = await changes.create(store, name, policy, secret, taken)
    _note(request, "keys.created", name)
    return _made(made, _CREATED)


@_for_admins
async def show(request: Request, store: KeyStore) -> Response:
    """``GET /admin/keys/{name}``, with what is used of its limits, if that can be told."""
    name = request.path_params["name"]
    found = next((key for key in context(request).keys.configured if key.name == name), None)
    if found is not None:
        page = pages.of_configured(found)
    elif (record := await store.key(name)) is not None:
        page = pages.of_record(record, time.time())
    else:
        raise NotFound(f"There is no key {name!r}.", param="name")
    with suppress(BusError, CodecError, LimitsUnavailable):
        page["used"] = await context(request).limiter.use(KEY, name)
    return _json(page)


@_for_admins
async def edit(request: Request, store: KeyStore) -> Response:
    """``PATCH /admin/keys/{name}`` with fields of the policy; null: the default."""
    name = _kept(context(request), request)
    record = await changes.edit(store, name, await _object(request))
    _note(request, "keys.edited", name)
    return _json(pages.of_record(record, time.time()))


@_for_admins
async def rotate(request: Request, store: KeyStore) -> Response:
    """``POST /admin/keys/{name}/rotate`` with ``{"grace": "1d"}``, or without a body."""
    name = _kept(context(request), request)
    said = await _object(request, empty=True)
    if unknown := sorted(said.keys() - {"grace"}):
        raise InvalidRequest(f"{unknown[0]}: there is no such field.", param=unknown[0])
    made = await changes.rotate(store, name, changes.grace_of(said.get("grace", changes.GRACE)))
    _note(request, "keys.rotated", name)
    return _made(made)


@_for_admins
async def revoke(request: Request, store: KeyStore) -> Response:
    """``DELETE /admin/keys/{name}``"""
    name = _kept(context(request), request)
    record = await changes.revoke(store, name)
    _note(request, "keys.revoked", name)
    return _json(pages.of_record(record, time.time()))


@_for_admins
async def accounts(request: Request, store: KeyStore) -> Response:
    """``GET /admin/accounts``: those with limits or a weight of their own."""
    found = [pages.of_account(each) for each in await store.accounts()]
    return _json({"object": "list", "data": found})


@_for_admins
async def set_account(request: Request, store: KeyStore) -> Response:
    """``PATCH /admin/accounts/{account}`` with ``limits`` and ``weight``; null: the default."""
    account = request.path_params["account"]
    record = await changes.set_account(store, account, await _object(request))
    _note(request, "keys.account_set", account)
    return _json(pages.of_account(record))


async def own(request: Request) -> Response:
    """``GET /v1/key``: what the key that asks is, and may do. Raises Unauthorized."""
    who = context(request).keys.who(request)
    return _json(pages.of_principal(who))


ROUTES: tuple[tuple[str, Serve, str], ...] = (
    ("/v1/key", own, "GET"),
    ("/admin/keys", index, "GET"),
    ("/admin/keys", create, "POST"),
    ("/admin/keys/{name}", show, "GET"),
    ("/admin/keys/{name}", edit, "PATCH"),
    ("/admin/keys/{name}", revoke, "DELETE"),
    ("/admin/keys/{name}/rotate", rotate, "POST"),
    ("/admin/accounts", accounts, "GET"),
    ("/admin/accounts/{account}", set_account, "PATCH"),
)


def _kept(here: Context, request: Request) -> str:
    """The name in the path. Raises InvalidRequest for a key that is not the store's."""
    name: str = request.path_params["name"]
    if any(key.name == name for key in here.keys.configured):
        why = f"The key {name!r} is in the configuration: change it there, and send SIGHUP."
        raise InvalidRequest(why, param="name")
    return name


async def _object(request: Request, *, empty: bool = False) -> dict[str, Any]:
    """`empty`: no body means an object without fields."""
    body = await read_body(request, KEY_SIZE // 2)
    if empty and not body:
        return {}
    need_json(request)
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError as fault:
        raise InvalidRequest(f"The body is no JSON: {fault}.") from None
    if not isinstance(said, dict):
        raise InvalidRequest("The body is no JSON object.")
    return said


def _text(said: dict[str, Any], field: str) -> str:
    found = said.get(field)
    if not isinstance(found, str) or not found:
        raise InvalidRequest(f"{field}: give a text.", param=field)
    return found


def _note(request: Request, event: str, name: str) -> None:
    log.info(event, name=name, by=context(request).keys.who(request).key)


def _made(made: Made, status: int = 200) -> Response:
    response = _json({**pages.of_record(made.record, time.time()), "secret": made.secret}, status)
    response.headers["cache-control"] = "no-store"
    return response


def _json(document: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, media_type="application/json")
