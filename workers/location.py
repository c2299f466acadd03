"""Where a store, a dashboard or a web hook is: the text of its URL, printed without the secrets in it. No torch."""

from __future__ import annotations

import re
from pathlib import Path

PLAIN_OPTIONS = frozenset(
    {
        *("region", "scheme", "endpoint_override", "allow_bucket_creation", "allow_bucket_deletion", "anonymous"),
        *("check_directory_existence_before_creation", "smart_defaults", "tls_verify_certificates", "project_id"),
        *("force_virtual_addressing", "retry_limit_seconds", "replication", "buffer_size", "conditional_writes"),
    }
)
"""Of a URL's query these are printed; any other may be a key, a token or a signature."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+:/+)(.*)", re.DOTALL)
_URL_IN_TEXT = re.compile(r"""[A-Za-z][A-Za-z0-9+.-]+:/+\S*[^\s:;,.!?)"'\]}>]""")
"""Without the punctuation of the sentence that it ends in."""

_HARMLESS = re.compile(r"[\w.:/-]*")


class Location:
    """A path or a URL. Whoever prints or formats it, or looks at its repr, sees neither user nor password nor tokens.

    The whole text is had by `reveal` alone, at the line that opens what is there, or hands the credentials on.
    """

    __slots__ = ("_path_is_secret", "_text")

    def __init__(self, place: str | Path | Location, *, path_is_secret: bool = False) -> None:
        """With `path_is_secret`, as of a web hook, only the host is printed."""
        self._text: str = place._text if isinstance(place, Location) else str(place)
        self._path_is_secret: bool = path_is_secret or (isinstance(place, Location) and place._path_is_secret)

    def reveal(self) -> str:
        """The text as it was given, secrets included."""
        return self._text

    @property
    def is_url(self) -> bool:
        return "://" in self._text

    def absolute(self) -> Location:
        """A local path made absolute; a URL as it is."""
        return self if self.is_url else Location(Path(self._text).expanduser().absolute())

    def beside(self, *parts: str) -> Location:
        """A place below this one, the options of its URL kept."""
        place, mark, options = self._text.partition("?") if self.is_url else (self._text, "", "")
        return Location("/".join((place.rstrip("/"), *parts)) + mark + options)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __str__(self) -> str:
        shown = _without_secrets(self._text)
        url = _URL.fullmatch(shown) if self._path_is_secret else None
        return url[1] + re.split("[/?#]", url[2], maxsplit=1)[0] if url else shown

    def __repr__(self) -> str:
        return f"Location({str(self)!r})"

    def __fspath__(self) -> str:
        return str(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Location) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


def public(text: str) -> str:
    """A message, of a library for instance, whose URLs are printed as those of a `Location`."""
    return _URL_IN_TEXT.sub(lambda url: _without_secrets(url[0]), text)


def _without_secrets(text: str) -> str:
    url = _URL.fullmatch(text)
    if url is None:
        return text
    place, mark, query = _without_user(url[2]).partition("?")
    options = [option for option in query.split("&") if _is_plain(option)]
    return url[1] + place + (mark if options else "") + "&".join(options)


def _without_user(rest: str) -> str:
    """What follows `scheme://`. A password with a slash or a question mark that was not escaped goes, too."""
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        return authority.rpartition("@")[2] + rest[len(authority) :]
    host, colon, port = authority.partition(":")
    if not colon or port.isdecimal() or authority.startswith("["):
        return rest
    return rest.partition("@")[2] if "@" in rest else host + rest[len(authority) :]


def _is_plain(option: str) -> bool:
    name, _, value = option.partition("=")
    return name in PLAIN_OPTIONS and _HARMLESS.fullmatch(value) is not None
