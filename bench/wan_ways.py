"""What `bench.wan` times: diffusers' own pipeline, our family with each lever, and each way to decode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from bench.wan_model import SPATIAL, TEMPORAL, WanShape, write_model
from videosvc.bench.memory import peak_bytes
from videosvc.engine.loading import open_engine
from videosvc.engine.meter import Meter
from videosvc.families.attention_backend import set_attention
from videosvc.families.base import TextEmbeds
from videosvc.families.load_levers import NO_LEVERS, LoadLevers
from videosvc.families.low_bit_weights import storage_only
from videosvc.families.wan import Wan
from videosvc.pricing.calibrate_attention import measure_attention
from videosvc_kernels import LowBitLinear, linears
from videosvc_samplers import SamplerState, euler, flow_sigmas

Work = Callable[[Tensor], Tensor]
Denoise = Callable[[int, float, Tensor], Tensor]  # steps, guidance scale, noise (1, C, T, h, w): latents of that shape


@dataclass(frozen=True, slots=True)
class Row:
    """Our family with these levers, on the fastest of the attention kernels."""

    name: str
    levers: LoadLevers = NO_LEVERS


STOCK, NATIVE = "stock diffusers", "ours, native attention"  # the rows that there always are
ROWS = (
    Row("ours"),
    Row("ours, compiled", LoadLevers(compile=True)),
    Row("ours, int8 weights", LoadLevers("int8")),
    Row("ours, fp8 weights", LoadLevers("fp8")),
    Row("ours, int8 weights, compiled", LoadLevers("int8", compile=True)),
    Row("ours, fp8 weights, compiled", LoadLevers("fp8", compile=True)),
)
DECODES = ("full", "tiled", "stream")


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    seconds: float
    result: Tensor  # latents (1, C, T, h, w), or frames (F, H, W, 3)


class Ways:
    """All of them loaded, and each run once: by then kernels are chosen and code is compiled."""

    def __init__(self, shape: WanShape, device: str, rows: Sequence[Row], folder: Path, seed: int) -> None:
        """`device`: cpu, cuda or cuda:N; `folder`: an empty one, to put the model into, needed no longer than this."""
        entry = write_model(folder, shape, torch.device(device), seed)
        engine = open_engine(entry, device)
        self.shape, self.family = shape, cast(Wan, engine.family)  # with no lever pulled
        self.attention = measure_attention(engine, entry)
        self.family.attend_by("native")
        with torch.inference_mode():
            self._text = self.family.encode_text("a clip", "")
        self._seed = seed
        self.refused: dict[str, str] = {}  # what cannot be here, and why
        self.weights: dict[str, str] = {}  # of each row that can be
        self.denoise: dict[str, Denoise] = {}
        self.decode: dict[str, Work] = {}
        self.peak_bytes: dict[str, int] = {}  # of each way to decode
        self.low_bit_layers: dict[str, int] = {}  # of each row with such weights: the others would have cost too much
        self.layers = len(linears(self.family.transformer.blocks))

        self._add(STOCK, "native", stock(folder, self.family, self._text))
        self._add(NATIVE, "native", ours(self.family, shape, self._text))
        fast = entry.model_copy(update={"attention": self.attention.best})
        for row in rows:
            with self._refusing(row.name):
                if saves_no_time := storage_only(row.levers.weights, self.family.device):
                    raise RuntimeError(saves_no_time)
                family = cast(Wan, open_engine(fast, device, row.levers).family)
                self._add(row.name, row.levers.weights, ours(family, shape, self._text))
                if row.levers.weights != "native":
                    layers = family.transformer.blocks.modules()
                    self.low_bit_layers[row.name] = sum(isinstance(layer, LowBitLinear) for layer in layers)
        for name in DECODES:
            with self._refusing(f"decode {name}"), torch.inference_mode():
                work = partial(self._frames, name)
                self.peak_bytes[name] = peak_bytes(partial(work, self._noise(seed)), self.family.device)
                self.decode[name] = work

    @torch.inference_mode()
    def make(self, work: Work, prompt: str, seed: int) -> Made:
        """`work` on noise of that seed. `prompt`: of no account."""
        noise, meter = self._noise(seed), Meter(self.family.device)
        with meter.stage("denoise"):
            result = work(noise)
        return Made(meter.total_s, result)

    def _add(self, name: str, weights: str, denoise: Denoise) -> None:
        self.make(partial(denoise, 1, 1.0), "", self._seed)
        self.weights[name], self.denoise[name] = weights, denoise

    def _frames(self, decode: str, latents: Tensor) -> Tensor:
        clip = self.family.open_clip(self.shape.width, self.shape.height, self._text, 1.0, decode=decode)
        return clip.decode(latents)

    def _noise(self, seed: int) -> Tensor:
        return self.shape.noise(seed, self.family.device)

    @contextmanager
    def _refusing(self, name: str) -> Iterator[None]:
        """Goes on without `name` if what is within fails, and keeps why: no such lever, kernel or memory."""
        try:
            yield
        except Exception as error:  # Triton, the compiler it calls and the driver each have errors of their own
            self.refused[name] = (str(error).strip() or type(error).__name__).splitlines()[0]


def stock(folder: Path, family: Wan, text: TextEmbeds) -> Denoise:
    """diffusers' `WanPipeline` on native attention, where `family` is, in its type and at its noise levels."""
    from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel

    class OurLevels(FlowMatchEulerDiscreteScheduler):  # type: ignore[misc]  # diffusers' classes come without types
        """diffusers would space the steps otherwise, and its latents be another clip's."""

        def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
            super().set_timesteps(device=device, sigmas=list(flow_sigmas(num_inference_steps, family.shift)[:-1]))

    transformer = WanTransformer3DModel.from_pretrained(folder / "transformer", torch_dtype=family.dtype)
    transformer = transformer.to(family.device).eval().requires_grad_(False)
    set_attention("stock", transformer, "native", family.device)
    pipeline = WanPipeline(
        tokenizer=None, text_encoder=None, vae=None, transformer=transformer, scheduler=OurLevels(shift=1.0)
    )
    pipeline.set_progress_bar_config(disable=True)

    def denoise(steps: int, guidance_scale: float, noise: Tensor) -> Tensor:
        _, _, latents, height, width = noise.shape
        made: Tensor = pipeline(
            prompt_embeds=text.prompt,
            negative_prompt_embeds=text.negative,
            width=width * SPATIAL,
            height=height * SPATIAL,
            num_frames=(latents - 1) * TEMPORAL + 1,
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            latents=noise,
            output_type="latent",
        ).frames
        return made

    return denoise


def ours(family: Wan, shape: WanShape, text: TextEmbeds) -> Denoise:
    def denoise(steps: int, guidance_scale: float, noise: Tensor) -> Tensor:
        clip = family.open_clip(shape.width, shape.height, text, guidance_scale)
        *_, state = euler(clip.denoise, SamplerState.start(noise), flow_sigmas(steps, family.shift))
        return state.latents

    return denoise
