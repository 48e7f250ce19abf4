"""``headrace nats leaf``: the configuration of a nats-server elsewhere that is a leaf of ours.

It passes on what the hub and its own clients have for each other, over one connection that it
opens. nats-server keeps JetStream's subjects from leaves, by which workers ask for jobs, unless
both say that the account's domain is the empty one. It calls that option temporary: without it, the
import of pulls into MEMBERS would need a name of its own there (m: as ``pull.*``, leaves pass it).
The hub tells a leaf what others listen to only within what the leaf's login may publish: a node's
own login would be told of nobody who listens to all nodes, so it is the login of all workers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from deploy import home
from deploy.configure import CommandFailed, Where
from deploy.nats import credentials
from deploy.nats import store as stores
from deploy.nats.config import ANY_PORT, MAX_PAYLOAD
from deploy.nats.credentials import write_private
from workers.process import ports

FILE, CA = "leaf.conf", "ca.pem"
_ROLE = "worker"
_OWN_ACCOUNT = "$G"
"""That of clients of a server without accounts."""


def write(where: Where, folder: Path, port: int) -> list[Path]:
    """Write what a leaf of the broker that runs here needs, to be taken to its machine. `port`:
    where it listens there, on loopback. Raises CommandFailed."""
    store = home.broker_store(where.data)
    found = stores.find(store)
    if found is None or not found.addresses:
        raise CommandFailed(
            "no shared broker runs here: start 'headrace up --share' with a leaf_port in [share]"
        )
    leaf_port = where.settings().share.leaf_port
    if leaf_port < 0:
        raise CommandFailed("no port for leaves: set leaf_port in [share], and restart the broker")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    login = credentials.load(store)[_ROLE]
    urls = [_url(address, login, leaf_port) for address in found.addresses if "wss:" not in address]
    write_private(folder / FILE, config(urls, CA if found.ca else "", port))
    if not found.ca:
        return [folder / FILE]
    write_private(folder / CA, Path(found.ca).read_text())
    return [folder / FILE, folder / CA]


def config(urls: list[str], ca: str, port: int) -> str:
    """`urls`: of the hub's port for leaves, with the login. `ca`: a file beside it, or ""."""
    remote = {"urls": urls, "tls": {"ca_file": f"./{ca}"} if ca else {}}
    whole: dict[str, Any] = {
        "listen": f"{ports.LOOPBACK}:{port or ANY_PORT}",
        "max_payload": MAX_PAYLOAD,
        "ping_interval": "2s",
        "ping_max": 2,
        "default_js_domain": {_OWN_ACCOUNT: ""},
        "leafnodes": {"reconnect": "1s", "remotes": [remote]},
    }
    return json.dumps(whole, indent=1)


def _url(address: str, login: tuple[str, str], port: int) -> str:
    host = urlsplit(address).netloc.rpartition(":")[0]
    return f"tls://{login[0]}:{quote(login[1], safe='')}@{host}:{port}"
