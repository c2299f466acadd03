"""A proxy before a real S3 endpoint that delays requests, loses some, and loses or cuts the answers to others."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import pytest

from tests.s3 import bucket

FAULTS = ("lost", "unanswered", "cut", "busy", "slow")
"""Not passed on; passed on without an answer; with half of one; refused for now, as Amazon does; late."""

BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
SLOW_SECONDS = 2.0


class FaultyProxy:
    """Passes HTTP requests on to an endpoint, but for a share of them, to which one fault happens after the other.

    Those that are `planned` come first; `faults` counts them all.
    """

    def __init__(self, endpoint: str, share: float, delay: float, seed: int) -> None:
        self.host, self.port = urlsplit(endpoint).hostname, urlsplit(endpoint).port
        self.share, self.delay, self.chance = share, delay, random.Random(seed)
        self.planned: list[str] = []
        self.faults = Counter[str]()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request of a connection, whose answer says that it is closed then."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            request = await _request(reader)
            fault = self._fault()
            await asyncio.sleep(SLOW_SECONDS if fault == "slow" else self.delay)
            writer.write(await self._answer(request, fault))
            await writer.drain()
            if fault in ("lost", "unanswered", "cut"):
                writer.transport.abort()
        writer.close()

    def _fault(self) -> str | None:
        in_turn = FAULTS[self.faults.total() % len(FAULTS)]
        by_chance = in_turn if self.chance.random() < self.share else None
        fault = self.planned.pop(0) if self.planned else by_chance
        self.faults.update([fault] if fault else [])
        return fault

    async def _answer(self, request: bytes, fault: str | None) -> bytes:
        if fault == "lost":
            return b""
        if fault == "busy":
            return b"HTTP/1.1 503 Slow Down\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(BUSY) + BUSY
        answer = await self._passed_on(request)
        return {"unanswered": b"", "cut": answer[: len(answer) // 2]}.get(fault or "", answer)

    async def _passed_on(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(request)
        answer = await reader.read(-1)
        writer.close()
        return answer


async def _request(reader: asyncio.StreamReader) -> bytes:
    """A whole request, which asks that the connection be closed after it."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = [line for line in head.split(b"\r\n") if line]
    headers = dict(line.lower().split(b": ", 1) for line in lines)
    body = await reader.readexactly(int(headers.get(b"content-length", 0)))
    kept = [line for line in lines if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([first, *kept, b"connection: close", b"", body])


@contextmanager
def faulty_bucket(share: float = 0.0, *, delay: float = 0.0, seed: int = 0) -> Iterator[tuple[str, FaultyProxy]]:
    """An empty bucket's URL, which this process and those that it starts reach through the proxy."""
    with bucket() as url, pytest.MonkeyPatch.context() as patch:
        proxy, loop = FaultyProxy(os.environ["AWS_ENDPOINT_URL"], share, delay, seed), asyncio.new_event_loop()
        server = loop.run_until_complete(asyncio.start_server(proxy.serve, "127.0.0.1", 0, backlog=1000))
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        try:
            yield url, proxy
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
