"""How near a clip comes to the one that many steps and no lever make of the same noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from videosvc.config.size import Size
from videosvc.pricing.clip_frames import Frames
from videosvc.pricing.scores import Judge, ScoreName

SIGMA, RADIUS = 1.5, 5  # the window: 11 x 11 pixels, Gaussian
STABLE_MEAN, STABLE_CONTRAST = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim(some: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Mean structural similarity of two clips (T, H, W, 3), each channel for itself; 1 if they are the same.

    "Image quality assessment: from error visibility to structural similarity", Wang et al. 2004, eq. 13, with the
    paper's window and constants. Below 0 only where structures are inverted.
    """

    def window(images: NDArray[np.float64]) -> NDArray[np.float64]:
        blurred: NDArray[np.float64] = gaussian_filter(images, SIGMA, radius=RADIUS, axes=(1, 2))
        return blurred[:, RADIUS:-RADIUS, RADIUS:-RADIUS]  # whole windows only

    x, y = some.astype(np.float64), other.astype(np.float64)
    mean_x, mean_y = window(x), window(y)
    spread = window(x * x) - mean_x**2 + window(y * y) - mean_y**2
    common = window(x * y) - mean_x * mean_y
    means = (2 * mean_x * mean_y + STABLE_MEAN) / (mean_x**2 + mean_y**2 + STABLE_MEAN)
    return float((means * (2 * common + STABLE_CONTRAST) / (spread + STABLE_CONTRAST)).mean())


def resized(pixels: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """(T, H, W, 3) to another size, bicubic."""
    images = (Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC) for frame in pixels)
    return np.stack([np.asarray(image) for image in images])


@dataclass(frozen=True, slots=True)
class ReferenceScore:
    """Structural similarity to the reference of the clip's own size, times what the last reference, against which all
    are held, keeps of itself when it is brought to that size and back.

    The same seed is other noise at another size, and so another clip: pixels of two sizes cannot be compared.
    """

    name: ScoreName = "reference"
    method: str = (
        "SSIM (Wang et al. 2004, eq. 13) to the reference clip of the same prompt, seed and size, "
        "times SSIM of the reference preset's clip to itself brought to that size and back; 0 if below"
    )
    counts: bool = False

    def judge(self, number: int, prompt: str, references: Mapping[Size, Frames]) -> Judge:
        *_, held = references.values()
        kept = {size: _kept(held, size) for size in references}

        def quality(clip: Frames) -> float:
            reference = references[clip.size]
            seen = clip.at_rate(reference.fps).pixels
            length = min(len(seen), len(reference.pixels))  # rounding may cost one of them a frame
            return max(0.0, ssim(seen[:length], reference.pixels[:length])) * kept[clip.size]

        return quality


def _kept(held: Frames, size: Size) -> float:
    there_and_back = resized(resized(held.pixels, size), held.size)
    return max(0.0, ssim(there_and_back, held.pixels))
