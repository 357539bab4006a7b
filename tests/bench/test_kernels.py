from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench.kernels import main
from triton_device import DEVICE, INTERPRETED

pytestmark = INTERPRETED


def test_all_ways_come_to_the_same() -> None:
    from bench.kernel_ways import Shapes, ways  # which are nothing without Triton

    shapes = Shapes(frames=3, height=2, width=3, channels=48, hidden=80, heads=2, chunk_frames=1)
    compared = ways(shapes, DEVICE, torch.float32)
    assert len(compared) == 7
    for name, each in compared.items():
        results = {way: [part.double() for part in run()] for way, run in each.items()}
        for way, parts in results.items():
            for found, wanted in zip(parts, results["torch"], strict=True):
                off = torch.linalg.vector_norm(found - wanted) / torch.linalg.vector_norm(wanted)
                # A layer in bfloat16 has not the errors of int8 codes, and others may round a tie the other way.
                assert off < (0.03 if way == "bfloat16" else 1e-3), (name, way)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--output", str(tmp_path / "kernels.json")])
    assert ended.value.code == 2
    assert capsys.readouterr() == ("", "bench.kernels needs a CUDA device, and there is none here\n")
    assert not list(tmp_path.iterdir())
