"""Endpoints of Google Cloud Storage's two interfaces on loopback, for tests of remote stores.

pyarrow speaks JSON, which an emulator of Google's store answers. obstore speaks XML, which the emulator does not list;
it is Amazon's but for a few headers, so that a real S3 endpoint answers once these are translated.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote
from uuid import uuid4

import pytest
from gcp_storage_emulator.server import create_server

from tests import s3

HEADERS = {
    "HTTP_X_GOOG_IF_GENERATION_MATCH": ("HTTP_IF_NONE_MATCH", {"0": "*"}),
    "HTTP_X_GOOG_COPY_SOURCE": ("HTTP_X_AMZ_COPY_SOURCE", {}),
}
"""Google's for Amazon's, and values that are others there."""

SOMEONE = "AWS4-HMAC-SHA256 Credential=someone/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


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


@contextmanager
def xml_bucket(requests: s3.Requests | None = None) -> Iterator[str]:
    """An empty bucket's URL. This process and those that it starts find the endpoint with an account of its own."""
    with s3.endpoint(requests, _translated) as (address, name), pytest.MonkeyPatch.context() as patch:
        account = {"gcs_base_url": address, "disable_oauth": True}
        account |= dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
        patch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps(account))
        yield f"gs://{name}"


def _translated(environ: s3.Environ) -> s3.Environ:
    """A request to Google as it would be to Amazon."""
    headers = {
        amazon: values.get(environ[google], environ[google])
        for google, (amazon, values) in HEADERS.items()
        if google in environ
    }
    uris = {name: environ[name].replace("%2D", "-") for name in ("RAW_URI", "REQUEST_URI") if name in environ}
    return {**environ, **uris, **headers, "HTTP_AUTHORIZATION": SOMEONE}
