"""What a sampler carries from one step to the next, and all that a checkpoint must keep of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

# denoiser(x, t, r): mean velocity of the flow from t to r, (B, C, T, H, W) like x; instantaneous when r == t.
# x_t = (1-t)*x0 + t*noise and velocity = noise - x0, so x_r = x - (t-r) * denoiser(x, t, r).
Denoiser = Callable[[Tensor, float, float], Tensor]


@dataclass(frozen=True, slots=True)
class SamplerState:
    """A run between two steps. Samplers read it and build the next one; none writes to its tensors."""

    latents: Tensor  # (B, C, T, H, W) at noise level sigmas[step]
    step: int  # steps already taken
    denoised: Tensor | None = None  # (B, C, T, H, W), the last step's estimate of x0: what a preview shows
    history: tuple[Tensor, ...] = ()  # each (B, C, T, H, W): what a multistep solver remembers
    rng: Tensor | None = None  # Generator.get_state(), CPU: where a stochastic sampler stands in its noise
    done: bool = False  # the run ends here, though its schedule goes on

    @classmethod
    def start(cls, latents: Tensor, seed: int | None = None) -> SamplerState:
        """Begin a run at pure noise `latents`, (B, C, T, H, W); stochastic samplers need a `seed`."""
        rng = None if seed is None else torch.Generator().manual_seed(seed).get_state()
        return cls(latents, step=0, rng=rng)

    def advance(
        self, latents: Tensor, denoised: Tensor, history: tuple[Tensor, ...] = (), rng: Tensor | None = None
    ) -> SamplerState:
        """Give the state one step later; the generator state stays unless `rng` replaces it."""
        return SamplerState(latents, self.step + 1, denoised, history, self.rng if rng is None else rng)

    def to_tensors(self) -> dict[str, Tensor]:
        """Give the state as named tensors that own their memory, as safetensors demands."""
        named = {"latents": self.latents, "denoised": self.denoised, "rng": self.rng}
        named |= {f"history.{i}": tensor for i, tensor in enumerate(self.history)}
        tensors = {
            name: tensor.detach().clone(memory_format=torch.contiguous_format)
            for name, tensor in named.items()
            if tensor is not None
        }
        return tensors | {"step": torch.tensor(self.step), "done": torch.tensor(self.done)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> SamplerState:
        """Read back what `to_tensors` gave, bit for bit, on whichever device the tensors are.

        Raises ValueError when the latents or the step number are missing.
        """
        for name in ("latents", "step"):
            if name not in tensors:
                raise ValueError(f"sampler state: tensor {name!r} is missing")
        remembered = sum(name.startswith("history.") for name in tensors)
        rng = tensors.get("rng")
        return cls(
            latents=tensors["latents"],
            step=int(tensors["step"]),
            denoised=tensors.get("denoised"),
            history=tuple(tensors[f"history.{i}"] for i in range(remembered)),
            rng=None if rng is None else rng.cpu(),
            done=bool(tensors.get("done", False)),
        )
