from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from videosvc_kernels import gelu_tanh


@pytest.mark.usefixtures("poisoned_outputs")
@pytest.mark.parametrize("spread", [1e-3, 1.0, 30.0, 1e20])
def test_is_gelu(spread: float) -> None:
    x = spread * torch.randn(3, 5, 64, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    wanted = F.gelu(x.double(), approximate="tanh").float()
    torch.testing.assert_close(gelu_tanh(x), wanted, atol=1e-7 * max(spread, 1.0), rtol=2e-6)
    assert torch.equal(x, before)


def test_is_zero_at_zero_and_keeps_nan() -> None:
    assert gelu_tanh(torch.tensor([0.0, -0.0])).tolist() == [0.0, 0.0]
    assert gelu_tanh(torch.tensor([torch.nan])).isnan().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_of_other_types_it_is_torchs(dtype: torch.dtype) -> None:
    x = torch.randn(64, generator=torch.Generator().manual_seed(1)).to(dtype)
    assert torch.equal(gelu_tanh(x), F.gelu(x, approximate="tanh"))
