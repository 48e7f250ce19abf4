from __future__ import annotations

import gzip
import sys
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable

import pytest
from starlette.requests import Request

from ingress.http.body import read_body
from ingress.http.coding import unpacked
from schemas.errors import BodyTooLarge, InvalidRequest, UnsupportedCoding

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd.compress}
TEXT = bytes(range(256)) * 5000
LIMIT = len(TEXT)


async def cut(data: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def read(coding: str, data: bytes, size: int = 2**16, limit: int = LIMIT) -> bytes:
    pieces = [data[at : at + size] for at in range(0, len(data), size)] or [b""]
    headers = [(b"content-encoding", coding.encode())] if coding else []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    return await read_body(Request({"type": "http", "headers": headers}, receive), limit)


@pytest.mark.parametrize("size", [1, 7, 4096, 2**20])
@pytest.mark.parametrize("coding", ["gzip", "zstd", "GZIP", " zstd ", "x-gzip"])
async def test_a_compressed_body_is_unpacked_however_it_is_cut(coding: str, size: int) -> None:
    name = coding.strip().lower().removeprefix("x-")
    data = PACK[name](TEXT)
    assert await read(coding, data, size) == TEXT
    assert await read(coding, data + PACK[name](b"") + PACK[name](b"more"), size, 2 * LIMIT) == (
        TEXT + b"more"
    )


@pytest.mark.parametrize("coding", ["", "identity", "Identity", "identity, identity"])
async def test_one_that_is_not_is_read_as_it_is(coding: str) -> None:
    assert await read(coding, b"{}") == b"{}"


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, zstd", "snappy", "zstd;q=1"])
async def test_other_codings_are_told_which_are_known(coding: str) -> None:
    with pytest.raises(UnsupportedCoding, match="gzip, zstd") as caught:
        await read(coding, b"{}")
    assert caught.value.status == 415
    assert caught.value.headers()["accept-encoding"] == "gzip, zstd"


@pytest.mark.parametrize("coding", PACK)
@pytest.mark.parametrize("size", [64, 2**20])
async def test_a_bomb_is_refused_and_never_made(coding: str, size: int) -> None:
    bomb = PACK[coding](bytes(2**28))
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLarge, match="4096 bytes"):
            await read(coding, bomb, size, 4096)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("coding", PACK)
async def test_what_packs_a_lot_into_nothing_is_limited_too(coding: str) -> None:
    """Without a limit of its own, such a body may go on for ever."""
    nothing = PACK[coding](b"")
    with pytest.raises(BodyTooLarge):
        await read(coding, nothing * 1000, 2**10, 4096)


@pytest.mark.parametrize("coding", PACK)
@pytest.mark.parametrize(
    "harm", [lambda data: data[:-3], lambda data: b"{}", lambda data: data[5:]]
)
async def test_what_is_not_in_its_coding_is_the_clients_fault(
    coding: str, harm: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(InvalidRequest, match=coding) as caught:
        await read(coding, harm(PACK[coding](TEXT)))
    assert caught.value.status == 400


async def test_zstd_may_not_refer_back_further_than_a_browser_would_let_it() -> None:
    far = zstd.compress(TEXT, options={zstd.CompressionParameter.window_log: 27})
    assert await read("zstd", far) == TEXT, "it has not so much to refer to"
    long = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    frame = long.compress(TEXT) + long.flush()  # of a length that its head does not tell
    with pytest.raises(InvalidRequest, match="zstd"):
        await read("zstd", frame)


async def test_a_piece_is_no_larger_than_a_turn_allows() -> None:
    packed = zlib.compress(bytes(2**22), wbits=31)
    sizes = [len(piece) async for piece in unpacked(cut(packed, 2**20), "gzip", 2**20)]
    assert sum(sizes) == 2**22
    assert max(sizes) == 2**18
