"""Width and height of a clip, in pixels."""

from __future__ import annotations

import re
from typing import NamedTuple


class Size(NamedTuple):
    """Written "WxH"."""

    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> Size:
        """Reads "128x96". Raises ValueError saying how a size is written."""
        match = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)
        if match is None:
            raise ValueError("must be WIDTHxHEIGHT in pixels, such as 96x96")
        return cls(int(match[1]), int(match[2]))

    @property
    def pixels(self) -> int:
        return self.width * self.height

    def fits_in(self, other: Size) -> bool:
        return self.width <= other.width and self.height <= other.height

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"
