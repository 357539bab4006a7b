from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from videosvc_kernels import use_onednn
from videosvc_kernels.conv3d import conv3d

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


@settings(deadline=None, max_examples=25)
@given(
    kernel=st.sampled_from([(1, 1, 1), (3, 1, 1), (1, 3, 3), (3, 3, 3)]),
    channels=st.tuples(st.sampled_from([1, 4, 24]), st.sampled_from([1, 3, 32])),
    stride=st.sampled_from([1, 2, (2, 1, 1)]),
    padding=st.integers(0, 1),
    bias=st.booleans(),
    seed=st.integers(0, 999),
)
def test_is_the_convolution_in_float64(
    kernel: tuple[int, int, int], channels: tuple[int, int], stride: int | tuple[int, int, int], padding: int,
    bias: bool, seed: int,
) -> None:  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    conv = nn.Conv3d(*channels, kernel, stride, padding, bias=bias).requires_grad_(False)
    x = torch.randn(1, channels[0], 3, 9, 7, generator=generator)
    weight = torch.randn(conv.weight.shape, generator=generator) / conv.weight[0].numel() ** 0.5
    offset = torch.randn(channels[1], generator=generator) if bias else None
    expected = nn.functional.conv3d(x.double(), weight.double(), None if offset is None else offset.double(),
                                    conv.stride, conv.padding)  # fmt: skip
    torch.testing.assert_close(conv3d(x, weight, offset, conv).double(), expected, atol=2e-6, rtol=2e-6)


def test_every_convolution_of_a_model_takes_it() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(3, 8, 3, padding=1), nn.SiLU(), nn.Conv3d(8, 4, 1)).requires_grad_(False)
    x = torch.randn(1, 3, 3, 8, 8)
    expected = model(x)
    with torch.profiler.profile() as stock:
        model(x)
    use_onednn(model)
    with torch.profiler.profile() as ours:
        torch.testing.assert_close(model(x), expected, atol=2e-6, rtol=0)
    names = [{event.key for event in profile.key_averages()} for profile in (stock, ours)]
    assert "aten::slow_conv3d_forward" in names[0] and "aten::slow_conv3d_forward" not in names[1]
