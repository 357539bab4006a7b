"""The picture that a clip starts from. Uploads are decoded here, once: what goes on is a PNG of our own making."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from videosvc.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

PARAM = "input_reference"  # what a request calls it
FORMATS = ("PNG", "JPEG", "WEBP")
MAX_BYTES = 16 * 1024 * 1024  # of a file
MAX_PIXELS = 4096 * 4096
MAX_SIDE = 8192
MAX_ASPECT = 16  # of the longer side to the shorter: a clip would show next to nothing of it
KEPT_SIDE = 720  # pixels of the shorter side: clips are smaller, and nobody's 16 megapixels need be kept


@dataclass(frozen=True, slots=True)
class Picture:
    """Upright, opaque, RGB, and nothing but pixels: where a photograph was taken is not kept."""

    png: bytes

    @property
    def digest(self) -> str:
        """What a plan knows it by: SHA-256, in hex."""
        return hashlib.sha256(self.png).hexdigest()

    @staticmethod
    def read(data: bytes) -> Picture:
        """From a file's bytes. Raises UserError (input_reference): no whole PNG, JPEG or WebP, animated, too large."""
        from PIL import Image

        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:  # reads the header alone
                if image.width * image.height > MAX_PIXELS:
                    raise _refusal(f"{image.width}x{image.height}: may have at most {MAX_PIXELS} pixels")
                if max(image.size) > min(MAX_SIDE, MAX_ASPECT * min(image.size)):
                    limits = f"at most {MAX_SIDE} pixels long, and at most {MAX_ASPECT} times as long as the other"
                    raise _refusal(f"{image.width}x{image.height}: a side may be {limits}")
                # Not of a JPEG: what phones put behind the first picture there is a smaller one of the same.
                if image.format in ("PNG", "WEBP") and getattr(image, "n_frames", 1) > 1:
                    raise _refusal("must be one picture, not an animation")
                return Picture(_png(_within(_upright(image))))
        except UserError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise _refusal(f"may have at most {MAX_PIXELS} pixels") from error
        except Exception as error:  # damaged files make Pillow raise a dozen types
            raise _refusal(f"must be a whole {', '.join(FORMATS)} image") from error

    @staticmethod
    def load(path: Path) -> Picture:
        """From a file. Raises UserError (input_reference)."""
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise _refusal(f"{str(path)!r} cannot be read: {error.strerror}") from error
        if len(data) > MAX_BYTES:
            raise _refusal(f"{str(path)!r}: may have at most {MAX_BYTES} bytes")
        return Picture.read(data)

    def fitted(self, width: int, height: int) -> np.ndarray:
        """`(height, width, 3)`, uint8: scaled to cover that size, and cut off evenly where it sticks out."""
        import numpy as np
        from PIL import Image, ImageOps

        with Image.open(io.BytesIO(self.png), formats=("PNG",)) as image:
            return np.array(ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS))


def _upright(image: Image) -> Image:
    """As its EXIF orientation says, in RGB, on white where it is transparent."""
    from PIL import Image, ImageOps

    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):  # 16 bits a pixel, of which `convert` would cut off all above 255
        upright = upright.convert("I").point(lambda level: level / 257).convert("L")
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    opaque = upright.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque).convert("RGB")


def _within(image: Image) -> Image:
    from PIL import Image

    scale = KEPT_SIDE / min(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _png(image: Image) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.frombytes("RGB", image.size, image.tobytes()).save(file, "PNG")  # a fresh one: no EXIF, no comments
    return file.getvalue()


def _refusal(problem: str) -> UserError:
    return UserError(f"{PARAM}: {problem}", param=PARAM)
