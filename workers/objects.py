"""Amazon's S3, stores with its interface, and Google's, by obstore: one request a call, and conditional writes.

pyarrow, which reads tables from there, takes two to five requests for the same, and cannot write only if there is no
object (on S3 `If-None-Match: *`, on Google's store `x-goog-if-generation-match: 0`). Where obstore is not installed, or
credentials are such that only the clouds' own libraries find them (single sign-on, roles of a profile, workload
identity federation), pyarrow serves. No torch, no Ray.
"""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pyarrow import fs

from prunesweep.workers.errors import UserError
from prunesweep.workers.filesystems import AT_ONCE, PAGE, UNCONDITIONAL, Entry, Stamp
from prunesweep.workers.location import Location

OPTIONS = {"region", "scheme", "endpoint_override", "allow_bucket_creation", "allow_bucket_deletion"}
"""Those of pyarrow's options in a URL that are known here; any other leaves the URL to pyarrow."""

SOURCES = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
"""Variables by which obstore finds credentials."""

KEY_FILE = "service_account"
"""What Google's file of a key says that it is."""

BUCKET = re.compile(r"[\w.-]+", re.ASCII)

CLIENT = {"timeout": "300s", "connect_timeout": "5s"}
RETRIES = {"max_retries": 3}

CUT = "response body error"
"""What obstore says of an answer whose end has not come."""


def open_objects(url: Location) -> Objects | None:
    """What is at an `s3://` or `gs://` URL; None where pyarrow is to serve. Raises `UserError`."""
    parts = urlsplit(url.reveal())
    bucket = parts.netloc.rpartition("@")[2]
    if parts.scheme in ("s3", "gs", "gcs") and not BUCKET.fullmatch(bucket):
        raise UserError(
            f'cannot open "{url}": between {parts.scheme}:// and the next / there is no name of a bucket, of letters, '
            "digits, dots, hyphens and underscores; a / in a key or secret is written as %2F"
        )
    try:
        match parts.scheme:
            case "s3":
                store = _amazon(bucket, parts)
            case "gs" | "gcs":
                store = _google(bucket, parts)
            case _:
                return None
    except ImportError:
        return None
    return None if store is None else Objects(bucket, unquote(parts.path).strip("/"), store)


def without_option(url: str) -> str:
    """The URL as other libraries know it, without `UNCONDITIONAL`."""
    place, mark, query = url.partition("?")
    options = [option for option in query.split("&") if option and option != UNCONDITIONAL]
    return place + (mark if options else "") + "&".join(options)


def _google(bucket: str, parts: SplitResult) -> Any:
    """None also for a URL with options or a user, which only pyarrow knows."""
    account = _google_account()
    if parts.query or "@" in parts.netloc or account is None:
        return None
    from obstore.store import GCSStore

    client = {**CLIENT, "allow_http": str(account.get("gcs_base_url")).startswith("http://")}
    return GCSStore(bucket, client_options=client, retry_config=RETRIES)


def _google_account() -> dict[str, Any] | None:
    """The account that obstore finds, empty where the machine has one; None where obstore does not know its kind."""
    said = os.environ.get("GOOGLE_SERVICE_ACCOUNT_KEY")
    usual = "~/.config/gcloud/application_default_credentials.json"
    file = Path(os.environ.get("GOOGLE_APPLICATION_CREDENTIALS") or usual).expanduser()
    try:
        account = json.loads(said or file.read_text())
    except (OSError, ValueError):
        return {} if not file.exists() else None
    known = isinstance(account, dict) and account.get("type", KEY_FILE) in (KEY_FILE, "authorized_user")
    return account if known else None


def _amazon(bucket: str, parts: SplitResult) -> Any:
    options = dict(parse_qsl(parts.query))
    credentials = _credentials(parts.username, parts.password)
    if not parts.hostname or not options.keys() <= OPTIONS or credentials is None:
        return None
    from obstore.store import S3Store

    endpoint = (
        options.get("endpoint_override") or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    )
    if endpoint and "://" not in endpoint:
        endpoint = f"{options.get('scheme', 'https')}://{endpoint}"
    config = {**credentials, "region": options.get("region") or _region(bucket, endpoint)}
    if endpoint:
        config["endpoint"] = endpoint
    client = {**CLIENT, "allow_http": str(endpoint or "").startswith("http://")}
    return S3Store(bucket, config=config, client_options=client, retry_config=RETRIES)


def _region(bucket: str, endpoint: str | None) -> str:
    """As it is set; else Amazon is asked. Raises `UserError`."""
    said = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if said or endpoint:
        return said or "us-east-1"
    try:
        region: str = fs.resolve_s3_region(bucket)
    except OSError as error:
        raise UserError(f"cannot open the bucket {bucket}: {error}; AWS_REGION names its region") from error
    return region


def _credentials(user: str | None, password: str | None) -> dict[str, str] | None:
    """What obstore is to be told: nothing where it finds them itself. None where only pyarrow does."""
    if user:
        return {"access_key_id": unquote(user), "secret_access_key": unquote(password or "")}
    if any(os.environ.get(name) for name in SOURCES):
        return {}
    shared = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser()
    settings = Path(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser()
    profiles = configparser.ConfigParser(interpolation=None)
    with contextlib.suppress(configparser.Error, UnicodeDecodeError):
        profiles.read(shared)
    profile = os.environ.get("AWS_PROFILE") or "default"
    if profile in profiles and "aws_access_key_id" in profiles[profile]:
        names = {"access_key_id": "aws_access_key_id", "secret_access_key": "aws_secret_access_key"}
        names |= {"session_token": "aws_session_token"} if "aws_session_token" in profiles[profile] else {}
        return {name: profiles[profile].get(key, "") for name, key in names.items()}
    return None if settings.exists() or shared.exists() else {}


class Objects:
    """The objects of a bucket; paths begin with its name, as `root` does."""

    is_local = False
    exclusive = True

    def __init__(self, bucket: str, prefix: str, store: Any) -> None:
        import obstore

        self.bucket, self.store, self.api = bucket, store, obstore
        self.root = f"{bucket}/{prefix}".rstrip("/")

    def read(self, path: str, length: int | None = None) -> bytes | None:
        if length is None:
            return self._read(lambda: self.api.get(self.store, self._key(path)).bytes())
        return self._read(lambda: self._start(path, length))

    def read_stamped(self, path: str) -> tuple[bytes | None, Stamp | None]:
        try:
            answer = self._asked(lambda: self.api.get(self.store, self._key(path)))
            data = bytes(self._asked(answer.bytes))
        except FileNotFoundError:
            return None, None
        return data, Stamp(len(data), 0, _tag(answer.meta)) if answer.meta["e_tag"] else None

    def _start(self, path: str, length: int) -> bytes:
        """No range is asked for: of an empty object there is none."""
        chunks = self.api.get(self.store, self._key(path)).stream(min_chunk_size=length)
        return bytes(next(iter(chunks), b""))[:length]

    def _read(self, get: Callable[[], Any]) -> bytes | None:
        try:
            return bytes(self._asked(get))
        except FileNotFoundError:
            return None

    def write(self, path: str, data: bytes) -> None:
        self._asked(lambda: self.api.put(self.store, self._key(path), data))

    def create(self, path: str, data: bytes) -> bool:
        """A retry may meet what it has written itself: then the bytes are these."""
        try:
            self._asked(lambda: self.api.put(self.store, self._key(path), data, mode="create", use_multipart=False))
        except FileExistsError:
            return self.read(path) == data
        return True

    def remove(self, paths: Iterable[str]) -> None:
        """Amazon's deletes all at once, Google's one by one, where obstore breaks off at one that is not there."""
        keys = [self._key(path) for path in paths]
        try:
            self._asked(lambda: self.api.delete(self.store, keys))
        except FileNotFoundError:
            for key in keys if len(keys) > 1 else ():
                self.remove([key])

    def move(self, source: str, target: str) -> bool:
        try:
            self._asked(lambda: self.api.copy(self.store, self._key(source), self._key(target)))
        except FileNotFoundError:
            return False
        self.remove([source])
        return True

    def names(self, folder: str) -> set[str]:
        listing = self._asked(lambda: self.api.list_with_delimiter(self.store, self._key(folder)))
        paths = [*listing["common_prefixes"], *(entry["path"] for entry in listing["objects"])]
        return {path.rstrip("/").rpartition("/")[2] for path in paths}

    def files(self, folder: str) -> Iterator[Entry]:
        chunks = self._asked(lambda: list(self.api.list(self.store, self._key(folder) or None, chunk_size=PAGE)))
        for chunk in chunks:
            yield from map(self._entry, chunk)

    def page(self, folder: str, after: str) -> list[Entry]:
        prefix, start = self._key(folder), self._key(f"{folder}/{after}")

        def first() -> Any:
            return next(iter(self.api.list(self.store, prefix or None, offset=start, chunk_size=PAGE)), [])

        return list(map(self._entry, self._asked(first)))

    def _entry(self, about: Mapping[str, Any]) -> Entry:
        return Entry(f"{self.bucket}/{about['path']}", about["size"], about["last_modified"], _tag(about))

    def are_files(self, paths: list[str]) -> list[bool]:
        if not paths:
            return []
        with ThreadPoolExecutor(min(AT_ONCE, len(paths)), "asking") as pool:
            return list(pool.map(self._is_file, paths))

    def _is_file(self, path: str) -> bool:
        try:
            self._asked(partial(self.api.head, self.store, self._key(path)))
        except FileNotFoundError:
            return False
        return True

    def remove_folder(self, path: str) -> None:
        self.remove([entry.path for entry in self.files(path)])

    def _key(self, path: str) -> str:
        return path.removeprefix(self.bucket).lstrip("/")

    def _asked(self, request: Callable[[], Any], tries: int = 3) -> Any:
        """The answer; an `OSError` of one line. Where a list breaks off, obstore does not ask again itself."""
        try:
            return request()
        except self.api.exceptions.GenericError as error:
            if CUT not in str(error) or tries == 1:
                raise OSError(_line(error)) from None
            return self._asked(request, tries - 1)
        except self.api.exceptions.AlreadyExistsError as error:
            raise FileExistsError(_line(error)) from None
        except FileNotFoundError as error:
            raise FileNotFoundError(_line(error)) from None
        except self.api.exceptions.BaseError as error:
            raise OSError(_line(error)) from None


def _tag(about: Mapping[str, Any]) -> str:
    return str(about["e_tag"] or "").strip('"')


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0].removesuffix("Debug source:").strip()
