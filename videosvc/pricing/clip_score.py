"""How well frames fit the prompt, by a CLIP model that the user has on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from videosvc.config.size import Size
from videosvc.errors import UserError
from videosvc.pricing.clip_frames import Frames
from videosvc.pricing.scores import Judge, ScoreName

FRAMES = 8  # looked at, evenly spread
WEIGHT = 2.5
MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the pictures that the published models were trained on
STD = (0.26862954, 0.26130258, 0.27577711)


class ClipScore:
    """CLIPScore, arXiv 2104.08718, eq. 1, the mean over frames; what exceeds 1 counts as 1."""

    name: ScoreName = "clip"
    method = "CLIPScore (arXiv 2104.08718, eq. 1, w = 2.5), mean over 8 frames, at most 1"
    counts = False

    def __init__(self, folder: Path, device: torch.device) -> None:
        """`folder`: a CLIPModel as transformers saves it, tokenizer included. Raises UserError (clip_model)."""
        from transformers import AutoTokenizer, CLIPModel

        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model: Any = CLIPModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        except Exception as error:  # tokenizers raises no narrower one
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"clip_model: {folder} cannot be loaded ({reason})", param="clip_model") from error
        self._model = model.to(device).eval().requires_grad_(False)

    def judge(self, number: int, prompt: str, references: Mapping[Size, Frames]) -> Judge:
        longest = self._model.config.text_config.max_position_embeddings
        tokens = self._tokenizer(prompt, truncation=True, max_length=longest, return_tensors="pt")
        text = {name: tokens[name].to(self._model.device) for name in ("input_ids", "attention_mask")}

        @torch.inference_mode()
        def quality(clip: Frames) -> float:
            out = self._model(**text, pixel_values=self._pictures(clip))  # both embeddings are of length 1
            cosines: Tensor = (out.image_embeds @ out.text_embeds.T).clamp(min=0)
            return min(1.0, WEIGHT * cosines.mean().item())

        return quality

    def _pictures(self, clip: Frames) -> Tensor:
        """(FRAMES, 3, S, S): the middle square of each, as the model reads it."""
        chosen = torch.linspace(0, len(clip.pixels) - 1, FRAMES).round().long()
        frames = torch.from_numpy(clip.pixels)[chosen].permute(0, 3, 1, 2).float() / 255
        side = min(clip.size)
        top, left = (clip.size.height - side) // 2, (clip.size.width - side) // 2
        square = frames[:, :, top : top + side, left : left + side]
        target = self._model.config.vision_config.image_size
        small = F.interpolate(square, (target, target), mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
        return ((small - mean) / std).to(self._model.device)
