"""Why the embedded broker cannot run; each message says what to do.

::

    BrokerError
    ├── BinaryMissing    no nats-server on this machine, or one that is too old
    ├── StoreBusy        another process runs a broker on this store
    ├── StoreUnusable    the directory is not ours, or cannot be read
    └── BrokerFailed     nats-server ended, or was not ready in time; carries its last lines
        └── PortTaken    somebody else listens on the port
"""

from __future__ import annotations


class BrokerError(RuntimeError):
    """Base of the tree."""


class BinaryMissing(BrokerError):
    pass


class StoreBusy(BrokerError):
    pass


class StoreUnusable(BrokerError):
    pass


class BrokerFailed(BrokerError):
    pass


class PortTaken(BrokerFailed):
    pass
