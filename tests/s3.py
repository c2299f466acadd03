"""A real S3 endpoint on loopback, for tests of remote stores; its requests are counted, and may come from afar."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.server import MotoRequestHandler
from werkzeug.serving import make_server

Environ = dict[str, Any]
"""A request, as WSGI has it."""

Translation = Callable[[Environ], Environ]


@dataclass
class Requests:
    """What an endpoint was asked, by HTTP's methods; each request first takes `delay` seconds."""

    delay: float = 0.0
    by_method: Counter[str] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        """All together."""
        return self.by_method.total()

    @contextmanager
    def counted(self) -> Iterator[Counter[str]]:
        """The requests inside the block, which can be read after it."""
        before, inside = self.by_method.copy(), Counter[str]()
        yield inside
        inside.update(self.by_method - before)

    @contextmanager
    def undelayed(self) -> Iterator[None]:
        """Inside it the endpoint is near."""
        delay, self.delay = self.delay, 0.0
        yield
        self.delay = delay


@contextmanager
def bucket(requests: Requests | None = None) -> Iterator[str]:
    """An empty bucket's URL. This process and those that it starts find the endpoint as they find Amazon's."""
    with endpoint(requests) as (address, name), pytest.MonkeyPatch.context() as patch:
        settings = {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "someone",
            "AWS_SECRET_ACCESS_KEY": "a secret",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        for key, value in settings.items():
            patch.setitem(os.environ, key, value)
        yield f"s3://{name}"


@contextmanager
def endpoint(requests: Requests | None = None, translated: Translation = dict) -> Iterator[tuple[str, str]]:
    """Where it listens, and the name of an empty bucket; `translated` makes S3's requests of another interface's."""
    app = _watched(DomainDispatcherApplication(create_backend_app), requests or Requests(), translated)
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it would print every request
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address, name = f"http://127.0.0.1:{server.server_port}", f"bucket-{uuid4().hex[:8]}"
    urlopen(Request(f"{address}/{name}", method="PUT")).close()
    try:
        yield address, name
    finally:
        server.shutdown()


def _watched(app: Any, requests: Requests, translated: Translation) -> Callable[[Environ, Any], Iterable[bytes]]:
    lock = threading.Lock()

    def answer(environ: Environ, start_response: Any) -> Iterable[bytes]:
        with lock:
            requests.by_method[environ["REQUEST_METHOD"]] += 1
        time.sleep(requests.delay)
        reply: Iterable[bytes] = app(translated(environ), start_response)
        return reply

    return answer
