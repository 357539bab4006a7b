"""Small pictures of a clip: for a list, for a scrub bar, and of one that is still running."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from videosvc.config.size import Size
from videosvc.errors import GenerationError

if TYPE_CHECKING:
    from torch import Tensor

THUMBNAIL_SIDE = 320  # pixels, at most; the longer side
TILE_SIDE = 160
TILES = 16
COLUMNS = 4
JPEG_QUALITY = 85


def make_previews(video: Path, size: Size, frames: int, folder: Path) -> tuple[Path, Path]:
    """Writes thumbnail.webp, the clip's middle frame, and spritesheet.jpg into `folder`; returns both paths.

    The sheet has up to 16 frames at even distances, row by row, 4 in a row. `size` and `frames` are the video's.
    Raises GenerationError if the video cannot be read.
    """
    wanted = sorted({tile * frames // TILES for tile in range(TILES)})  # half-way through it, the middle frame
    pictures = dict(zip(wanted, _read(video, _within(size, THUMBNAIL_SIDE), wanted), strict=True))
    thumbnail, spritesheet = folder / "thumbnail.webp", folder / "spritesheet.jpg"
    pictures[frames // 2].save(thumbnail, quality=JPEG_QUALITY)
    tile = _within(size, TILE_SIDE)
    columns = min(COLUMNS, len(wanted))
    rows = -(-len(wanted) // columns)
    sheet = Image.new("RGB", (columns * tile.width, rows * tile.height))
    for place, picture in enumerate(pictures.values()):
        row, column = divmod(place, columns)
        sheet.paste(picture.resize(tile), (column * tile.width, row * tile.height))
    sheet.save(spritesheet, quality=JPEG_QUALITY)
    return thumbnail, spritesheet


def jpeg(frame: Tensor) -> bytes:
    """A frame `(H, W, 3)`, uint8, on the CPU, as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(frame.numpy()).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _read(video: Path, size: Size, wanted: list[int]) -> list[Image.Image]:
    """The frames of these numbers, scaled to `size`. ffmpeg selects and scales, so little passes the pipe."""
    from imageio_ffmpeg import get_ffmpeg_exe

    select = "+".join(f"eq(n,{index})" for index in wanted)
    filters = f"select='{select}',scale={size.width}:{size.height}:in_color_matrix=bt709:flags=area"
    command = [get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-i", f"file:{video}"]
    command += ["-vf", filters, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL)
    length = size.width * size.height * 3
    if done.returncode != 0 or len(done.stdout) != length * len(wanted):
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise GenerationError(f"ffmpeg cannot read the clip: {lines[-1] if lines else 'frames are missing'}")
    data = memoryview(done.stdout)
    return [
        Image.frombytes("RGB", size, bytes(data[start : start + length])) for start in range(0, len(data), length)
    ]


def _within(size: Size, side: int) -> Size:
    """The largest size of the same shape whose longer side is at most `side` pixels; never larger than it was."""
    scale = min(1.0, side / max(size))
    return Size(*(max(1, round(length * scale)) for length in size))
