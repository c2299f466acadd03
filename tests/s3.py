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
    app = _watched(DomainDispatcherApplication(create_backend_app), requests or Requests())
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it would print every request
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "a secret",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    name = f"bucket-{uuid4().hex[:8]}"
    with pytest.MonkeyPatch.context() as patch:
        for key, value in settings.items():
            patch.setitem(os.environ, key, value)
        urlopen(Request(f"{settings['AWS_ENDPOINT_URL']}/{name}", method="PUT")).close()
        try:
            yield f"s3://{name}"
        finally:
            server.shutdown()


def _watched(app: Any, requests: Requests) -> Callable[[dict[str, Any], Any], Iterable[bytes]]:
    lock = threading.Lock()

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with lock:
            requests.by_method[environ["REQUEST_METHOD"]] += 1
        time.sleep(requests.delay)
        reply: Iterable[bytes] = app(environ, start_response)
        return reply

    return answer
