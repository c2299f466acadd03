"""Image files of every mode to pixels: each scaled to its own range, or refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prunesweep.workers.data.images import read, scaled
from prunesweep.workers.errors import UserError

RAMP = np.arange(4096).reshape(64, 64)


def levels(path: Path) -> list[int]:
    pixels = read(str(path))
    assert pixels.shape == (3, 64, 64)
    return pixels.unique().tolist()


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("factor", [1, 4, 16])
def test_grey_of_12_to_16_bits_keeps_its_levels(tmp_path: Path, ending: str, factor: int):
    file = tmp_path / f"deep.{ending}"
    Image.fromarray((RAMP * factor).astype(np.uint16)).save(file)
    assert levels(file) == list(range(256))


@pytest.mark.parametrize("values", [RAMP / 4095, RAMP - 2000.0, RAMP * 1e-6], ids=["0 to 1", "about 0", "small"])
def test_floats_keep_their_levels(tmp_path: Path, values: np.ndarray):
    file = tmp_path / "float.tiff"
    Image.fromarray(values.astype(np.float32)).save(file)
    assert levels(file) == list(range(256))


def test_whole_numbers_of_32_bits_keep_their_levels(tmp_path: Path):
    file = tmp_path / "whole.tiff"
    Image.fromarray((RAMP * 100_000).astype(np.int32)).save(file)
    assert levels(file) == list(range(256))


def test_an_image_that_uses_its_range_is_not_stretched():
    """So the brightness of photographs stays comparable: 65535 is 255, and 1.0 is."""
    assert scaled(np.array([[257, 32896, 51400]], np.uint16)).tolist() == [[1, 128, 200]]
    assert scaled(np.array([[0.0, 0.25, 0.5]], np.float32)).tolist() == [[0, 64, 128]]
    assert scaled(np.array([[1000, 1100, 1200]], np.uint16)).tolist() == [[0, 128, 255]], "100 levels are not left"
    assert scaled(np.array([[257, 257]], np.uint16)).tolist() == [[1, 1]], "a single value is left where it is"


def test_values_that_are_no_numbers_are_refused_by_file(tmp_path: Path):
    file = tmp_path / "gap.tiff"
    Image.fromarray(np.where(RAMP == 7, np.nan, RAMP).astype(np.float32)).save(file)
    with pytest.raises(UserError, match=rf"^{file} .*values that are not finite numbers"):
        read(str(file))


def write_deep_colours(file: Path, values: np.ndarray) -> None:
    """A PNG of 16 bits a colour, which Pillow cannot write."""
    rows = b"".join(b"\0" + np.repeat(row, 3).astype(">u2").tobytes() for row in values)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 16, 2, 0, 0, 0))
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def test_colours_of_16_bits_are_read_where_pillow_keeps_them(tmp_path: Path):
    write_deep_colours(tmp_path / "full.png", RAMP * 16)
    assert levels(tmp_path / "full.png") == list(range(256))
    write_deep_colours(tmp_path / "twelve bits.png", RAMP)
    with pytest.raises(UserError, match="only the lower ones are used, which are lost: save it with 8 bits"):
        read(str(tmp_path / "twelve bits.png"))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "LAB"])
def test_every_mode_of_8_bits_becomes_colours(tmp_path: Path, mode: str):
    colours = Image.new("RGB", (64, 64), (200, 60, 40))
    file = tmp_path / "image.tif"
    colours.convert(mode).save(file)
    red, green, blue = read(str(file))[:, 30, 30].tolist()
    grey = mode in ("1", "L", "LA")
    assert red > green or (grey and red == green == blue)
    assert read(str(file)).shape == (3, 64, 64)


@pytest.mark.parametrize("ending", ["jfif", "jpe", "gif", "avif", "webp", "jp2", "tga", "bmp", "ppm"])
def test_endings_that_people_have(tmp_path: Path, ending: str):
    file = tmp_path / f"image.{ending}"
    Image.new("RGB", (64, 64), (200, 60, 40)).save(file, "JPEG" if ending in ("jfif", "jpe") else None)
    assert read(str(file))[:, 30, 30].tolist() == pytest.approx([200, 60, 40], abs=6)


def test_of_several_frames_it_is_the_first(tmp_path: Path):
    first, second = (Image.new("L", (64, 64), value) for value in (10, 200))
    first.save(tmp_path / "film.gif", save_all=True, append_images=[second])
    assert levels(tmp_path / "film.gif") == [10]
