from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from PIL import Image

from videosvc.artifacts.previews import ClipPreviews, jpeg
from videosvc.config.size import Size


def previews_of(size: Size, frames: int, folder: Path) -> tuple[Path, Path]:
    """Of a clip whose frames are one grey each, brighter from frame to frame, and come three at a time."""
    greys = torch.linspace(0, 255, frames).round().to(torch.uint8)
    previews = ClipPreviews(size, frames)
    for part in greys[:, None, None, None].expand(frames, size.height, size.width, 3).split(3):
        previews.add(part)
    return previews.save_thumbnail(folder), previews.save_spritesheet(folder)


@pytest.mark.parametrize(
    ("size", "frames", "thumbnail", "sheet"),
    [
        (Size(64, 48), 16, (64, 48), (256, 192)),
        (Size(64, 48), 1, (64, 48), (64, 48)),
        (Size(64, 48), 6, (64, 48), (256, 96)),
        (Size(640, 384), 37, (320, 192), (640, 384)),
        (Size(16, 640), 2, (8, 320), (8, 160)),
    ],
)
def test_sizes_and_formats(
    size: Size, frames: int, thumbnail: tuple[int, int], sheet: tuple[int, int], tmp_path: Path
) -> None:
    paths = previews_of(size, frames, tmp_path)
    assert [path.name for path in paths] == ["thumbnail.webp", "spritesheet.jpg"]
    with Image.open(paths[0]) as picture:
        assert (picture.format, picture.size) == ("WEBP", thumbnail)
    with Image.open(paths[1]) as picture:
        assert (picture.format, picture.size) == ("JPEG", sheet)


def test_the_sheet_goes_through_the_clip_and_the_thumbnail_is_its_middle(tmp_path: Path) -> None:
    paths = previews_of(Size(64, 48), 32, tmp_path)
    with Image.open(paths[1]) as sheet:
        tiles = [_grey(sheet, 32 + 64 * (tile % 4), 24 + 48 * (tile // 4)) for tile in range(16)]
    for tile, grey in enumerate(tiles):
        assert abs(grey - 255 * 2 * tile / 31) < 6
    with Image.open(paths[0]) as thumbnail:
        assert abs(_grey(thumbnail, 32, 24) - tiles[8]) < 4


def test_a_frame_as_jpeg() -> None:
    frame = torch.zeros(48, 64, 3, dtype=torch.uint8)
    frame[..., 0] = 200
    with Image.open(io.BytesIO(jpeg(frame))) as picture:
        assert (picture.format, picture.size) == ("JPEG", (64, 48))
        assert picture.getpixel((30, 20))[0] > 190  # type: ignore[index]


def _grey(picture: Image.Image, x: int, y: int) -> int:
    value = picture.convert("L").getpixel((x, y))
    assert isinstance(value, int)
    return value
