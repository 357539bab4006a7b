from __future__ import annotations

import torch

from training.toyworld.decoder import drawing_error


def test_an_error_weighs_more_on_a_thing_and_at_an_outline() -> None:
    video = torch.zeros(1, 3, 4, 16, 16)
    covered = torch.zeros(1, 1, 4, 16, 16)
    covered[..., 6:10, 6:10] = 1
    assert drawing_error(video, video, covered) == 0

    def error_at(rows: slice, columns: slice) -> float:
        drawn = video.clone()
        drawn[..., rows, columns] = 0.5
        return drawing_error(drawn, video, covered).item()

    on_it, far_off = (error_at(slice(6, 10), slice(x, x + 4)) for x in (6, 12))
    assert on_it > 2 * far_off
    stripes = video.clone()
    stripes[..., ::2] = 0.5
    half = video.clone()
    half[..., :8] = 0.5  # as many pixels wrong, all in one piece
    assert drawing_error(stripes, video, covered) > 1.5 * drawing_error(half, video, covered)
