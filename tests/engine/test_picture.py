from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from videosvc.engine.picture import KEPT_SIDE, MAX_BYTES, Picture
from videosvc.errors import UserError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def bars(*colours: tuple[int, ...], width: int = 20, height: int = 40) -> Image.Image:
    """Of equal width, from left to right."""
    image = Image.new("RGBA" if len(colours[0]) == 4 else "RGB", (width * len(colours), height))
    for number, colour in enumerate(colours):
        image.paste(colour, (number * width, 0, (number + 1) * width, height))
    return image


def pixels(data: bytes) -> np.ndarray:
    picture = Picture.read(data)
    with Image.open(io.BytesIO(picture.png)) as image:
        return np.array(image)


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("JPEG", {"quality": 95})])
def test_formats(kind: str, options: dict[str, Any]) -> None:
    image = bars(RED, BLUE)
    found = pixels(file_of(image, kind, **options)).astype(int)
    assert np.abs(found - np.array(image)).mean() < (5 if kind == "JPEG" else 1e-9)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "CMYK"])
def test_other_colours_become_rgb(mode: str) -> None:
    white = Image.new("RGB", (8, 8), "white").convert(mode)
    assert (pixels(file_of(white, "JPEG" if mode == "CMYK" else "PNG")) >= 254).all()


def test_sixteen_bits_become_eight() -> None:
    levels = np.array([[0, 257 * 100, 65535]], np.uint16)
    assert pixels(file_of(Image.fromarray(levels)))[0, :, 0].tolist() == [0, 100, 255]


def test_it_stands_as_the_camera_was_held() -> None:
    image = bars(RED, GREEN)
    for kind in ("JPEG", "PNG", "WEBP"):
        exif = Image.Exif()
        exif[0x0112] = 6  # turn it a quarter to the right
        exif[0x8825] = {1: "N", 2: (52.0, 31.0, 0.0)}
        turned = pixels(file_of(image, kind, exif=exif))
        assert turned.shape == (40, 40, 3)
        assert turned[5, 20].argmax() == 0 and turned[35, 20].argmax() == 1, "what was left is above"
        assert b"eXIf" not in Picture.read(file_of(image, kind, exif=exif)).png


def test_what_is_transparent_is_white() -> None:
    found = pixels(file_of(bars((*RED, 255), (*RED, 0), (*RED, 128))))
    assert found[0, 0].tolist() == [255, 0, 0] and found[0, 25].tolist() == [255, 255, 255]
    assert abs(int(found[0, 45, 1]) - 127) <= 1
    indexed = bars(RED, BLUE).quantize(2)
    indexed.info["transparency"] = int(np.array(indexed)[0, 0])
    assert pixels(file_of(indexed, transparency=indexed.info["transparency"]))[0, 0].tolist() == [255, 255, 255]


def test_of_a_large_one_no_more_is_kept_than_a_clip_can_show() -> None:
    assert pixels(file_of(Image.new("RGB", (3000, 1500)), "JPEG")).shape == (KEPT_SIDE, 2 * KEPT_SIDE, 3)
    assert pixels(file_of(Image.new("RGB", (1600, 100)))).shape == (100, 1600, 3), "all of a long one"


@pytest.mark.parametrize(("width", "height"), [(64, 64), (128, 64), (64, 128), (16, 16), (112, 48)])
def test_it_covers_the_clip_and_is_cut_evenly(width: int, height: int) -> None:
    picture = Picture.read(file_of(bars(RED, GREEN, BLUE, width=200, height=200)))
    fitted = picture.fitted(width, height)
    assert (fitted.shape, fitted.dtype) == ((height, width, 3), np.uint8)
    assert fitted[height // 2, width // 2].argmax() == 1, "the middle stays in the middle"
    left, right = fitted[:, 0, 0].mean(), fitted[:, -1, 2].mean()
    assert abs(left - right) < 8, "as much is cut off on both sides"


def test_at_its_own_size_nothing_changes() -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    assert np.array_equal(Picture.read(file_of(Image.fromarray(image))).fitted(64, 48), image)


def test_the_same_picture_has_the_same_digest() -> None:
    one, same, other = (Picture.read(file_of(bars(*colours))) for colours in ((RED, BLUE), (RED, BLUE), (BLUE, RED)))
    assert one.digest == same.digest != other.digest and len(one.digest) == 64


def animated(kind: str) -> bytes:
    first, second = bars(RED, BLUE), bars(BLUE, RED)
    return file_of(first, kind, save_all=True, append_images=[second])


def test_a_photograph_with_a_smaller_one_behind_it_is_the_first() -> None:
    assert pixels(animated("MPO"))[20, 10].argmax() == 0


def header_of(width: int, height: int) -> bytes:
    """A PNG that claims to be so large, and ends there."""
    small = file_of(Image.new("L", (1, 1)))
    place = small.index(b"IHDR")
    chunk = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + small[place + 12 : place + 17]
    return small[:place] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + small[place + 21 :]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "must be a whole PNG, JPEG, WEBP image"),
        (b"MZ" * 100, "must be a whole PNG, JPEG, WEBP image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "must be a whole"),
        (file_of(bars(RED), "GIF"), "must be a whole"),
        (file_of(bars(RED), "TIFF"), "must be a whole"),
        (file_of(bars(RED, BLUE), "JPEG")[:-60], "must be a whole"),
        (file_of(bars(RED, BLUE), "WEBP")[:-9], "must be a whole"),
        (animated("PNG"), "not an animation"),
        (animated("WEBP"), "not an animation"),
        (header_of(5000, 4000), "5000x4000: may have at most 16777216 pixels"),
        (header_of(12_000, 12_000), "may have at most 16777216 pixels"),
        (header_of(60_000, 60_000), "may have at most 16777216 pixels"),
        (header_of(1, 16_000_000), "1x16000000: a side may be at most 8192 pixels long"),
        (header_of(8193, 2000), "8193x2000: a side may be at most 8192 pixels long"),
        (header_of(100, 1601), "at most 16 times as long as the other"),
    ],
)
def test_what_is_no_picture(data: bytes, says: str) -> None:
    with pytest.raises(UserError) as refused:
        Picture.read(data)
    assert refused.value.param == "input_reference" and "\n" not in refused.value.message
    assert refused.value.message.startswith("input_reference: ") and says in refused.value.message


WHOLE = [file_of(bars(RED, BLUE), kind) for kind in ("PNG", "JPEG", "WEBP")]


@given(st.sampled_from(WHOLE), st.data())
def test_a_damaged_file_is_a_picture_or_a_refusal(whole: bytes, data: st.DataObject) -> None:
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        picture = Picture.read(bytes(damaged[: data.draw(st.integers(1, len(damaged)))]))
    except UserError as refused:
        assert refused.param == "input_reference"
    else:
        assert picture.fitted(16, 16).shape == (16, 16, 3)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(file_of(bars(RED)))
    assert Picture.load(path) == Picture.read(path.read_bytes())
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    for bad, says in ((tmp_path / "none.png", "No such file"), (tmp_path, "directory"), (large, f"{MAX_BYTES} bytes")):
        with pytest.raises(UserError, match=says):
            Picture.load(bad)
