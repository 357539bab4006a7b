from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from videosvc_kernels.lloyd_max import gaussian_codebook


def error(values: np.ndarray) -> float:
    """Mean squared, of a standard normal variable rounded to the nearest of `values`."""
    edges = [-12.0, *(values[1:] + values[:-1]) / 2, 12.0]
    pieces = zip(values, edges, edges[1:], strict=False)
    return float(sum(quad(lambda x, v=v: (x - v) ** 2 * norm.pdf(x), low, high)[0] for v, low, high in pieces))


# Max, 1960, table I.
@pytest.mark.parametrize(("levels", "least"), [(2, 0.3634), (4, 0.1175), (8, 0.03454), (16, 0.009497)])
def test_loses_as_little_as_can_be(levels: int, least: float) -> None:
    values = np.array(gaussian_codebook(levels))
    assert len(values) == levels and (np.diff(values) > 0).all()
    np.testing.assert_allclose(values, -values[::-1], atol=1e-12)
    assert error(values) == pytest.approx(least, rel=1e-3)
    for moved in range(levels):
        other = values.copy()
        other[moved] += 0.01
        assert error(other) > error(values)
