from __future__ import annotations

import pytest
import torch

from videosvc.worker.memory import free_memory, is_out_of_memory


def test_a_real_one_on_the_cpu_is_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    free_memory()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_others_that_are(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), OSError("No space left on device")])
def test_what_is_not(error: Exception) -> None:
    assert not is_out_of_memory(error)
