"""nginx and Caddy with the files of `deploy/proxy/`, in which addresses and certificates alone are
others."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from deploy.nats import certificates
from tests import ports
from tests.acceptance.deployed.conftest import ROOT
from tests.fabric import PATIENCE

FILES = ROOT / "deploy" / "proxy"
NAME = "ai.example.com"
_MAIN = """\
daemon off;
{user}
worker_processes 1;
pid {home}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    include {home}/headrace.conf;
}}
"""
_OWN = "{{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n}}\n"


def nginx(home: Path, port: int, upstream: str) -> list[str]:
    """The arguments of nginx; its configuration is written to `home`."""
    text = (FILES / "nginx.conf").read_text()
    text = _replaced(text, "listen 443 ", f"listen 127.0.0.1:{port} ")
    text = _replaced(text, "server 127.0.0.1:8080;", f"server {upstream};")
    text = _replaced(text, "/etc/ssl/headrace/fullchain.pem", str(home / certificates.SERVER))
    text = _replaced(text, "/etc/ssl/headrace/privkey.pem", str(home / certificates.SERVER_KEY))
    (home / "headrace.conf").write_text(text)
    user = "user root;" if os.geteuid() == 0 else ""  # else its workers cannot write to `home`
    main = home / "nginx.conf"
    main.write_text(_MAIN.format(home=home, user=user))
    return ["-e", "stderr", "-c", str(main)]


def caddy(home: Path, port: int, upstream: str) -> list[str]:
    """The same of Caddy."""
    text = (FILES / "Caddyfile").read_text()
    keys = f"tls {home / certificates.SERVER} {home / certificates.SERVER_KEY}"
    site = f"https://{NAME}:{port} {{\n\tbind 127.0.0.1\n\t{keys}\n"
    text = _replaced(text, f"{NAME} {{\n", site)
    text = _replaced(text, "127.0.0.1:8080 {", f"{upstream} {{")
    (home / "Caddyfile").write_text(_OWN.format() + text)
    return ["run", "--adapter", "caddyfile", "--config", str(home / "Caddyfile")]


KINDS = {"nginx": nginx, "caddy": caddy}


def _replaced(text: str, old: str, new: str) -> str:
    assert len(re.findall(re.escape(old), text)) == 1, old
    return text.replace(old, new)


class Proxy:
    """One that runs, and clients of it."""

    def __init__(self, port: int, trusted: ssl.SSLContext) -> None:
        self.url = f"https://{NAME}:{port}"
        self._trusted = trusted

    def client(self, address: str = "127.0.0.1") -> aiohttp.ClientSession:
        """One that comes from there, over TLS."""
        connector = aiohttp.TCPConnector(
            ssl=self._trusted, resolver=Here(), local_addr=(address, 0), limit=0
        )
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        return aiohttp.ClientSession(connector=connector, timeout=timeout)


class Here(aiohttp.abc.AbstractResolver):
    """Each name is this machine's."""

    async def resolve(
        self, host: str, port: int = 0, family: int = 0
    ) -> list[aiohttp.abc.ResolveResult]:
        found = aiohttp.abc.ResolveResult(
            hostname=host, host="127.0.0.1", port=port, family=2, proto=0, flags=0
        )
        return [found]

    async def close(self) -> None: ...


@asynccontextmanager
async def running(kind: str, program: Path, home: Path, ingress: str) -> AsyncIterator[Proxy]:
    """`ingress`: its url."""
    home.mkdir()
    certificates.obtain(home, [NAME])
    port = ports.free()
    words = KINDS[kind](home, port, urlsplit(ingress).netloc)
    with (home / "log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            program, *words, stderr=log, env={**os.environ, "HOME": str(home)}
        )
    try:
        async with asyncio.timeout(PATIENCE):
            while not await _listens(port):
                assert process.returncode is None, (home / "log").read_text()
                await asyncio.sleep(0.02)
        yield Proxy(port, ssl.create_default_context(cafile=str(home / certificates.CA)))
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
