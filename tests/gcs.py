"""A real endpoint of Google Cloud Storage's interface on loopback, for tests of remote stores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote
from uuid import uuid4

from gcp_storage_emulator.server import create_server


@contextmanager
def bucket() -> Iterator[str]:
    """An empty bucket's URL, with %s for a place in it."""
    name = f"bucket-{uuid4().hex[:8]}"
    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket=name)
    server.start()
    host, port = server._api._httpd.server_address
    try:
        yield f"gs://anonymous@{name}/%s?scheme=http&endpoint_override={quote(f'{host}:{port}').replace('%', '%%')}"
    finally:
        server.stop()
