"""An S3 endpoint in memory that costs little, so that at a distance the client and the delay are measured, and not it.

What prunesweep asks of one, and no more: objects, whole or in ranges and parts, conditional writes, lists. The tests
ask moto instead, which knows Amazon's rules, takes milliseconds a request, and longer the more objects there are.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
import time
from bisect import bisect_right, insort
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

from tests.s3 import Requests

LONGEST = 2**16
WHEN, WHEN_LISTED = "Sat, 28 Nov 2026 12:00:00 GMT", "2026-11-28T12:00:00.000Z"


@dataclass(frozen=True)
class Request:
    """`path` is bucket and key, each value of `query` the last of its name, names of `headers` are in small letters."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """`length` is that of the body, where it is told and not sent."""

    status: HTTPStatus = HTTPStatus.OK
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None

    def encoded(self) -> bytes:
        """As it is sent."""
        length = len(self.body) if self.length is None else self.length
        headers = {"content-length": str(length), "last-modified": WHEN, **self.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\n{lines}\r\n".encode() + self.body


class Objects:
    """The objects of all buckets, by path."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self.tags: dict[str, str] = {}
        self.sorted: list[str] = []
        self.parts: dict[str, dict[int, bytes]] = {}
        self.put_at: dict[str, float] = {}
        """When an object was put there last, by `time.perf_counter`."""

    def put(self, path: str, data: bytes) -> str:
        """Put an object there; its tag."""
        if path not in self.data:
            insort(self.sorted, path)
        self.data[path], self.tags[path] = data, f'"{hashlib.md5(data).hexdigest()}"'
        self.put_at[path] = time.perf_counter()
        return self.tags[path]

    def remove(self, path: str) -> None:
        """Take it away, if it is there."""
        if self.data.pop(path, None) is not None:
            self.sorted.remove(path)

    def answer(self, request: Request) -> Reply:
        """What the endpoint says."""
        match request.method:
            case "GET" if "list-type" in request.query:
                return self._list(request.path, request.query)
            case "GET" | "HEAD":
                return self._get(request)
            case "PUT":
                return self._put(request)
            case "POST":
                return self._post(request)
        self.remove(request.path)
        return Reply(HTTPStatus.NO_CONTENT)

    def _get(self, request: Request) -> Reply:
        data = self.data.get(request.path)
        if data is None:
            return Reply(HTTPStatus.NOT_FOUND)
        headers = {"etag": self.tags[request.path], "accept-ranges": "bytes"}
        if request.method == "HEAD":
            return Reply(headers=headers, length=len(data))
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if not asked:
            return Reply(body=data, headers=headers)
        first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
        headers["content-range"] = f"bytes {first}-{last}/{len(data)}"
        return Reply(HTTPStatus.PARTIAL_CONTENT, data[first : last + 1], headers)

    def _put(self, request: Request) -> Reply:
        if "uploadId" in request.query:
            self.parts[request.query["uploadId"]][int(request.query["partNumber"])] = request.body
            return Reply(headers={"etag": '"part"'})
        if request.headers.get("if-none-match") == "*" and request.path in self.data:
            return Reply(HTTPStatus.PRECONDITION_FAILED)
        return Reply(headers={"etag": self.put(request.path, request.body)})

    def _post(self, request: Request) -> Reply:
        if "delete" in request.query:
            bucket = request.path.partition("/")[0]
            keys = re.findall("<Key>(.*?)</Key>", request.body.decode())
            for key in keys:
                self.remove(f"{bucket}/{unescape(key)}")
            deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
            return Reply(body=f"<DeleteResult>{deleted}</DeleteResult>".encode())
        upload = request.query.get("uploadId", str(len(self.parts)))
        if "uploads" in request.query:
            self.parts[upload] = {}
            answer = "InitiateMultipartUploadResult", f"<UploadId>{upload}</UploadId>"
        else:
            tag = self.put(request.path, b"".join(data for _, data in sorted(self.parts[upload].items())))
            answer = "CompleteMultipartUploadResult", f"<ETag>{escape(tag)}</ETag>"
        name, rest = answer
        bucket, _, key = request.path.partition("/")
        return Reply(body=f"<{name}><Bucket>{bucket}</Bucket><Key>{escape(key)}</Key>{rest}</{name}>".encode())

    def _list(self, bucket: str, query: dict[str, str]) -> Reply:
        prefix, most = query.get("prefix", ""), int(query.get("max-keys", 1000))
        after = query.get("continuation-token") or query.get("start-after", "")
        start = bisect_right(self.sorted, f"{bucket}/{max(after, prefix)}")
        entries: list[str] = []
        last, is_cut, folders = "", False, query.get("delimiter", "")
        seen = ""
        for path in self.sorted[start:]:
            key = path.removeprefix(f"{bucket}/")
            if not path.startswith(f"{bucket}/{prefix}"):
                break
            folder, slash, _ = key[len(prefix) :].partition(folders) if folders else ("", "", "")
            if slash and folder == seen:
                last = key
                continue
            if len(entries) == most:
                is_cut = True
                break
            entries.append(
                f"<CommonPrefixes><Prefix>{escape(prefix + folder + slash)}</Prefix></CommonPrefixes>"
                if slash
                else f"<Contents><Key>{escape(key)}</Key><LastModified>{WHEN_LISTED}</LastModified>"
                f"<ETag>{escape(self.tags[path])}</ETag><Size>{len(self.data[path])}</Size></Contents>"
            )
            seen, last = folder if slash else seen, key
        token = f"<NextContinuationToken>{escape(last)}</NextContinuationToken>" if is_cut else ""
        about = (
            f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><IsTruncated>{str(is_cut).lower()}</IsTruncated>"
        )
        return Reply(body=f"<ListBucketResult>{about}{token}{''.join(entries)}</ListBucketResult>".encode())


@contextmanager
def endpoint(requests: Requests) -> Iterator[tuple[str, Objects]]:
    """Its URL, and what it has; each request takes the delay of `requests`, and is counted there."""
    objects, loop = Objects(), asyncio.new_event_loop()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (request := await _request(reader)) is not None:
            requests.by_method[request.method] += 1
            await asyncio.sleep(requests.delay)
            writer.write(objects.answer(request).encoded())
            await writer.drain()
        writer.close()

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0, limit=LONGEST, backlog=1000))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", objects
    finally:
        asyncio.run_coroutine_threadsafe(_end_the_others(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


async def _end_the_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _request(reader: asyncio.StreamReader) -> Request | None:
    """The next one; None when the client has gone."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = head.splitlines()
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    parts = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    return Request(method, unquote(parts.path).strip("/"), query, headers, body)
