"""``python -m tests.acceptance.seeded``: the embedded engine, with a seed for requests without one.

The same question has the same answer in every run, also where a test leaves the sampling as it is.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from workers.engines.llamacpp import server

SEED = 42
_params = server._params


def _seeded(params: Any, options: argparse.Namespace) -> Any:
    params = _params(params, options)
    params.sampling.seed = SEED
    return params


if __name__ == "__main__":
    server._params = _seeded
    sys.exit(server.main())
