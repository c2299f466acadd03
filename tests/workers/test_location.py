"""A location prints itself without its secrets, however it is printed; only `reveal` has them."""

from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path

import pytest

from prunesweep.workers.location import Location, public

WITHOUT = {
    "s3://KEY:SECRET@bucket/x": "s3://bucket/x",
    "s3://KEY:SECRET@bucket/a@b": "s3://bucket/a@b",
    "s3://KEY:SEC/SECRET+/x@bucket/y": "s3://bucket/y",
    "s3://KEY:SEC?SECRET@bucket/y": "s3://bucket/y",
    "s3://KEY:SECRET/x": "s3://KEY/x",
    "s3://b/x?region=eu&token=SECRET&endpoint_override=h:9": "s3://b/x?region=eu&endpoint_override=h:9",
    "s3://b/x?endpoint_override=http://me:SECRET@h": "s3://b/x",
    "s3://b/x?X-Amz-Signature=SECRET": "s3://b/x",
    "https://SECRET@host:8265": "https://host:8265",
    "http://user:SECRET@[::1]:8265/": "http://[::1]:8265/",
    "postgresql+psycopg://me:SECRET@db:5432/x": "postgresql+psycopg://db:5432/x",
}

AS_THEY_ARE = ["results", "/nfs/a@b/c", "C:/a@b", "auto", "10.0.0.1:6379", "http://head:8265", "s3://b/x@y?region=eu"]


@pytest.mark.parametrize(("url", "shown"), WITHOUT.items())
def test_nothing_but_reveal_has_the_secret(url: str, shown: str, caplog: pytest.LogCaptureFixture):
    location = Location(url)
    assert str(location) == f"{location}" == format(location) == shown
    assert location.reveal() == url != str(location)
    logging.warning("at %s, %r", location, location)
    said = [
        *(repr(location), repr([location]), json.dumps({"at": location}, default=str), str(ValueError(location))),
        *(str(location.beside("small", "trials.parquet")), caplog.text, public(f'cannot parse "{url}": no such key')),
    ]
    assert not [text for text in said if "SECRET" in text]
    assert pickle.loads(pickle.dumps(location)).reveal() == url


@pytest.mark.parametrize("text", AS_THEY_ARE)
def test_what_holds_no_secret_is_printed_as_it_is(text: str):
    assert str(Location(text)) == text
    assert public(f"see {text} for more") == f"see {text} for more"


def test_of_a_web_hook_only_the_host_is_printed():
    hook = Location("https://me:x@chat.example:81/SECRET/1?y=SECRET#SECRET", path_is_secret=True)
    assert str(hook) == str(Location(hook)) == "https://chat.example:81"


def test_what_is_below_keeps_the_options_and_a_path_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert Location("s3://k:s@b/x/?region=eu").beside("y").reveal() == "s3://k:s@b/x/y?region=eu"
    monkeypatch.chdir(tmp_path)
    assert Location("a?b").absolute().beside("c") == Location(tmp_path / "a?b/c")
    assert Path(Location("a").absolute()) == tmp_path / "a"
