"""The parts of a model folder in diffusers' format, loaded one by one; whatever is wrong with one becomes one line."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from videosvc.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True)
class Components:
    """A model's folder, and where and in what type its parts are wanted."""

    model: str  # its name, for messages
    folder: Path
    device: torch.device
    dtype: torch.dtype

    def load(self, component_class: Any, name: str) -> Any:
        """One component, on the device, ready to infer. Weights that do not fill it exactly are an error.

        Both libraries build it without memory for weights first (accelerate's empty init) and then fill it shard by
        shard, so no more than one shard is held twice. Raises ModelError.
        """
        from diffusers import ModelMixin

        with self._blaming(name), _no_progress_bar():
            component, report = component_class.from_pretrained(
                self.folder / name,
                torch_dtype=self.dtype,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
        self._require_none(name, "weights lack", [*report["missing_keys"], *report["mismatched_keys"]])
        # Too few blocks in the configuration would load, and draw noise. Text encoders are let have more: published
        # ones come with a decoder, or with what is tied twice.
        if issubclass(component_class, ModelMixin):
            self._require_none(name, "its configuration has no room for", report["unexpected_keys"])
        return component.to(self.device).eval().requires_grad_(False)

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Raises ModelError."""
        from transformers import PreTrainedTokenizerFast

        with self._blaming("tokenizer"):
            tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(
                self.folder / "tokenizer", local_files_only=True
            )
        return tokenizer

    def _require_none(self, component: str, problem: str, names: Collection[str]) -> None:
        if names:
            first, more = min(names), f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ModelError(f"model {self.model!r}: {component}: {problem} {first}{more}", param="model")

    @contextlib.contextmanager
    def _blaming(self, component: str) -> Iterator[None]:
        """What loaders raise on bad files comes in many types; here it becomes one line."""
        try:
            yield
        except Exception as error:  # tokenizers raises no narrower one
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(f"model {self.model!r}: {component} cannot be loaded ({reason})", param="model") from error


@contextlib.contextmanager
def _no_progress_bar() -> Iterator[None]:
    """transformers draws one for every encoder it loads; ours is the only one a user should see."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
