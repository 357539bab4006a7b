from __future__ import annotations

import pytest
import torch
from diffusers import AnyFlowFARTransformer3DModel
from torch import Tensor

from training.toyworld.flow import THING_WEIGHT, Batch, Velocity, follow, noised, sample_times, weighted_loss
from videosvc.families.base import TextEmbeds
from videosvc.families.clip_decoder import ClipDecoder, LatentScale
from videosvc.families.decoder import DecoderStream
from videosvc.families.far_clip import FarClip
from videosvc.families.far_forward import FarForward
from videosvc.families.far_together import Together

TIMES = [(1.0, 1.0), (1.0, 0.0), (0.5, 0.25)]


class NoDecoder(DecoderStream):
    def decode(self, z: Tensor) -> Tensor:
        raise NotImplementedError

    def peek(self, z: Tensor) -> Tensor:
        raise NotImplementedError


@pytest.fixture(scope="module")
def transformer() -> AnyFlowFARTransformer3DModel:
    torch.manual_seed(3)
    model = AnyFlowFARTransformer3DModel(
        num_attention_heads=2, attention_head_dim=24, in_channels=6, out_channels=6, text_dim=16, freq_dim=32,
        ffn_dim=64, num_layers=2, full_chunk_limit=3, chunk_partition=(2, 2),
    )  # fmt: skip
    return model.eval().requires_grad_(False)


NOTHING = torch.zeros(1, 1, 2, 1, 1, dtype=torch.bool)  # covered


def open_clip(transformer: AnyFlowFARTransformer3DModel, embeds: Tensor) -> FarClip:
    decoder = ClipDecoder(NoDecoder(), LatentScale(torch.zeros(1, 6, 1, 1, 1), torch.ones(1, 6, 1, 1, 1)))
    text = TextEmbeds(embeds, None, ())
    together = Together(FarForward(transformer))
    return FarClip(together, decoder, text, guidance_scale=1.0, window_chunks=1)


@pytest.mark.parametrize("follows", [False, True])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (8, 12)])
def test_trains_on_the_numbers_that_serve(
    transformer: AnyFlowFARTransformer3DModel, follows: bool, height: int, width: int
) -> None:
    torch.manual_seed(5)
    count = len(TIMES)
    x, context = torch.randn(2, count, 6, 2, height, width)
    embeds = torch.randn(count, 32, 16)
    batch = Batch(x, NOTHING, context if follows else None, embeds, [])
    t, r = torch.tensor(TIMES).T
    trained = Velocity(transformer)(x, t, r, batch)
    for i in range(count):
        clip = open_clip(transformer, embeds[i : i + 1])
        if follows:
            clip.append(context[i : i + 1])
        served = clip.denoise(x[i : i + 1], *TIMES[i])
        # Times are scaled in float32 here and in Python's floats there: 6e-5 in the fastest sine of the embedding.
        assert torch.allclose(trained[i : i + 1], served, atol=1e-5, rtol=1e-5)


def test_context_and_caption_count(transformer: AnyFlowFARTransformer3DModel) -> None:
    torch.manual_seed(6)
    x, context = torch.randn(2, 1, 6, 2, 8, 8)
    t = torch.full((1,), 0.5)
    embeds = torch.randn(1, 32, 16)
    velocity = Velocity(transformer)
    plain = velocity(x, t, t, Batch(x, NOTHING, None, embeds, []))
    assert (velocity(x, t, t, Batch(x, NOTHING, context, embeds, [])) - plain).abs().mean() > 1e-3
    assert (velocity(x, t, t, Batch(x, NOTHING, None, -embeds, [])) - plain).abs().mean() > 1e-4


def test_the_loss_weighs_things_and_less_so_towards_noise() -> None:
    x, target = torch.zeros(2, 1, 3, 2, 4, 4)
    covered = torch.zeros(1, 1, 2, 4, 4, dtype=torch.bool)
    covered[..., 0] = True
    batch = Batch(x, covered, None, torch.zeros(1, 32, 16), [])
    on_thing, beside = covered.expand_as(x).float(), (~covered).expand_as(x).float()
    ratios = []
    for t in (0.0, 0.5, 1.0):
        t_of = torch.full((1,), t)
        thing, rest = (weighted_loss(error, target, t_of, batch) for error in (on_thing, beside))
        ratios.append(float(thing / rest) * 3)  # a quarter of the latents are covered
    assert ratios == pytest.approx([1 + THING_WEIGHT, 1 + THING_WEIGHT / 2, 1.0])


def test_noised_is_a_straight_line_with_its_slope() -> None:
    latents = torch.randn(3, 2, 2, 4, 4)
    t = torch.tensor([0.0, 0.3, 1.0])
    x, velocity = noised(latents, t)
    assert torch.allclose(x - t.view(-1, 1, 1, 1, 1) * velocity, latents, atol=1e-6)
    assert torch.equal(x[0], latents[0])


def test_times_lie_within_the_flow() -> None:
    torch.manual_seed(1)
    times = sample_times(1000, "cpu")
    assert times.min() > 0 and times.max() < 1 and 0.5 < times.mean() < 0.65


def test_the_average_follows() -> None:
    model, average = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    before = average.weight.detach().clone()
    follow(average, model, 0.9)
    assert torch.allclose(average.weight, 0.9 * before + 0.1 * model.weight)
