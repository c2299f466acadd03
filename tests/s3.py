"""A real S3 endpoint on loopback, for tests of remote stores."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest
from moto.server import ThreadedMotoServer


@contextmanager
def bucket() -> Iterator[str]:
    """An empty bucket's URL. This process and those that it starts find the endpoint as they find Amazon's."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it would print every request
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
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
            server.stop()
