"""Three brokers as one cluster, each a real nats-server that can be killed and restarted."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from deploy.nats import binary
from deploy.nats import store as stores
from deploy.nats.broker import Broker
from deploy.nats.config import ANY_PORT, ServerConfig
from deploy.nats.rights import ROLES
from tests import ports
from workers.process.ports import LOOPBACK

SIZE = 3
USERS = {role: (role, f"{role}-of-the-cluster") for role in ROLES}


class Cluster:
    def __init__(self, brokers: list[Broker]) -> None:
        self.brokers = brokers

    @property
    def url(self) -> str:
        return ",".join(each.url for each in self.brokers)

    def leader(self, stream: str) -> Broker:
        """The broker that leads this stream of the fabric's account."""
        page = "/jsz?accounts=true&streams=true&acc=HEADRACE"
        for broker in filter(lambda each: each.alive, self.brokers):
            with urllib.request.urlopen(broker.http_url + page) as answer:
                found = json.load(answer)
            for each in found["account_details"][0]["stream_detail"]:
                if each["name"] == stream:
                    led = each["cluster"]["leader"]
                    return next(it for it in self.brokers if it.store.name == led)
        raise LookupError(stream)


@contextmanager
def cluster(home: Path) -> Iterator[Cluster]:
    """A cluster until the block is left. It may not have chosen its leaders yet."""
    program = binary.find()
    routes = [ports.free() for _ in range(SIZE)]
    with ExitStack() as stack:
        brokers = []
        for number in range(SIZE):
            store = home / f"n{number}"
            lock = stack.enter_context(stores.claimed(store))
            config = ServerConfig(store, USERS, ANY_PORT, ANY_PORT, more=_more(number, routes))
            brokers.append(Broker(config, program, lock, 30.0))
            stack.callback(brokers[-1].stop)
        yield Cluster(brokers)


def _more(number: int, routes: list[int]) -> dict[str, Any]:
    addresses = [f"nats://{LOOPBACK}:{port}" for port in routes]
    listen = f"{LOOPBACK}:{routes[number]}"
    cluster = {"name": "test", "listen": listen, "routes": addresses}
    return {"server_name": f"n{number}", "cluster": cluster}
