from __future__ import annotations

from pathlib import Path

import pytest
import torch

from videosvc.engine.checkpoint import Checkpoint
from videosvc.engine.plan import Plan
from videosvc_samplers import SamplerState


def make(plan: Plan) -> Checkpoint:
    latents = torch.randn(1, 16, 2, 6, 8)
    return Checkpoint(plan, "hash", (latents, latents + 1), SamplerState.start(latents, seed=3), {"denoise": 0.1})


def test_comes_back_bit_for_bit(plan: Plan, tmp_path: Path) -> None:
    before = make(plan)
    before.save(tmp_path / "job")
    after = Checkpoint.load(tmp_path / "job")
    assert (after.plan, after.model_hash, after.spent) == (plan, "hash", {"denoise": 0.1})
    assert all(torch.equal(a, b) for a, b in zip(after.finished, before.finished, strict=True))
    assert after.sampler is not None and before.sampler is not None
    tensors = before.sampler.to_tensors()
    assert {n: t.tolist() for n, t in after.sampler.to_tensors().items()} == {n: t.tolist() for n, t in tensors.items()}
    assert list(tmp_path.iterdir()) == [tmp_path / "job"]


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: b"", lambda data: b"x" * 999])
def test_a_damaged_file_is_a_value_error(plan: Plan, tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "job"
    make(plan).save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="cannot be used"):
        Checkpoint.load(path)


def test_a_failed_write_keeps_the_old_checkpoint(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(plan).save(tmp_path / "job")
    before = (tmp_path / "job").read_bytes()

    def no_space(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OSError, match="no space"):
        make(plan).save(tmp_path / "job")
    assert (tmp_path / "job").read_bytes() == before
    assert list(tmp_path.iterdir()) == [tmp_path / "job"]
