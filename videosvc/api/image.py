"""Checks of an uploaded image."""

from __future__ import annotations

import io

from PIL import Image

from videosvc.api.errors import invalid

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 4096 * 4096


def check_image(param: str, data: bytes) -> None:
    """Raises ApiError unless this is a whole image of a known kind, with no more pixels than memory is fit for."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:  # reads the header alone
            if image.width * image.height > MAX_PIXELS:
                raise invalid(param, f"{image.width}x{image.height}: may have at most {MAX_PIXELS} pixels")
            image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise invalid(param, f"may have at most {MAX_PIXELS} pixels") from error
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for damaged files of several kinds
        raise invalid(param, f"must be a whole {', '.join(FORMATS)} image") from error
