"""Small pictures of a clip: for a list, for a scrub bar, and of one that is still running."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from videosvc.config.size import Size

if TYPE_CHECKING:
    from torch import Tensor

THUMBNAIL_SIDE = 320  # pixels, at most; the longer side
TILE_SIDE = 160
TILES = 16
COLUMNS = 4
JPEG_QUALITY = 85


class ClipPreviews:
    """Keeps the few frames of a clip that its previews show, as they come; memory does not grow with its length."""

    def __init__(self, size: Size, frames: int) -> None:
        """`size` and `frames`: the clip's. The sheet has up to 16 of its frames at even distances."""
        self._tile, self._thumbnail = _within(size, TILE_SIDE), _within(size, THUMBNAIL_SIDE)
        self._middle = frames // 2
        self._wanted = {tile * frames // TILES for tile in range(TILES)} | {self._middle}
        self._pictures: dict[int, Image.Image] = {}
        self._seen = 0

    def add(self, frames: Tensor) -> None:
        """The clip's next frames `(T, H, W, 3)`, uint8, on the CPU."""
        for number in range(self._seen, self._seen + len(frames)):
            if number in self._wanted:
                picture = Image.fromarray(frames[number - self._seen].numpy())
                self._pictures[number] = picture.resize(self._thumbnail, Image.Resampling.BOX)
        self._seen += len(frames)

    def save_thumbnail(self, folder: Path) -> Path:
        """Writes thumbnail.webp, the middle frame; of a clip that was cut short, its newest before that.

        A frame must have been added. Threads may save at once.
        """
        file = folder / "thumbnail.webp"
        newest = max(number for number in self._pictures if number <= self._middle)
        self._pictures[newest].save(file, quality=JPEG_QUALITY)
        return file

    def save_spritesheet(self, folder: Path) -> Path:
        """Writes spritesheet.jpg, row by row, 4 in a row. A frame must have been added."""
        file = folder / "spritesheet.jpg"
        tile, count = self._tile, len(self._pictures)
        columns = min(COLUMNS, count)
        sheet = Image.new("RGB", (columns * tile.width, -(-count // columns) * tile.height))
        for place, number in enumerate(sorted(self._pictures)):
            row, column = divmod(place, columns)
            picture = self._pictures[number].resize(tile, Image.Resampling.BOX)
            sheet.paste(picture, (column * tile.width, row * tile.height))
        sheet.save(file, quality=JPEG_QUALITY)
        return file


def jpeg(frame: Tensor) -> bytes:
    """A frame `(H, W, 3)`, uint8, on the CPU, as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(frame.numpy()).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _within(size: Size, side: int) -> Size:
    """The largest size of the same shape whose longer side is at most `side` pixels; never larger than it was."""
    scale = min(1.0, side / max(size))
    return Size(*(max(1, round(length * scale)) for length in size))
