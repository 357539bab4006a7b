"""Text to embeddings through a tokenizer and UMT5, as the stock Wan and AnyFlow pipelines do it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from videosvc.families.base import TextEmbeds
from videosvc.families.prompt_length import WAN_MAX_TOKENS, clean, too_long

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

REMEMBERED = 64  # texts; 4 MiB each for Wan's encoder


remembered = Counter(hits=0, misses=0)  # texts asked of all encoders of this process, for metrics
_one_by_one = threading.Lock()  # else two jobs of one prompt would both encode it


class PromptEncoder:
    """A tokenizer and its encoder. Texts are padded to one length; padding is zero in the embeddings.

    The last texts are remembered: the same prompt with other seeds is common, and so is the same negative prompt.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        encoder: UMT5EncoderModel,
        put_away: Callable[[], None] = lambda: None,
    ) -> None:
        """`put_away`: called after each text that was encoded."""
        self._put_away = put_away
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._embed = lru_cache(REMEMBERED)(self._encode)
        self.max_tokens = min(tokenizer.model_max_length, WAN_MAX_TOKENS)

    def encode(self, prompt: str, negative_prompt: str | None) -> TextEmbeds:
        """Raises UserError naming the text that is longer than `max_tokens`."""
        given, prompt = prompt, clean(prompt)
        embeds = self._recall("prompt", prompt)
        negative = None if negative_prompt is None else self._recall("negative_prompt", clean(negative_prompt))
        return TextEmbeds(embeds, negative, self.unknown_words(prompt) or self._unread(given, prompt))

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """The pieces of `text` that the tokenizer can only call unknown, each once, in order."""
        unknown = self._tokenizer.unk_token_id
        encoded = self._tokenizer(text, return_offsets_mapping=True)
        pieces = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        return tuple(dict.fromkeys(text[start:end] for token, (start, end) in pieces if token == unknown))

    def _unread(self, given: str, text: str) -> tuple[str, ...]:
        """The whole of what was `given`, if the tokenizer reads nothing at all in what was left of it."""
        tokens = set(self._tokenizer(text)["input_ids"])
        return (given,) if given and tokens <= set(self._tokenizer.all_special_ids) else ()

    def _recall(self, param: str, text: str) -> Tensor:
        with _one_by_one:
            misses = self._embed.cache_info().misses
            embeds = self._embed(param, text)
            remembered["hits" if self._embed.cache_info().misses == misses else "misses"] += 1
        return embeds

    def _encode(self, param: str, text: str) -> Tensor:
        """`(1, max_tokens, D)`"""
        tokens: list[int] = self._tokenizer(text)["input_ids"]
        length, room = len(tokens), self.max_tokens - len(tokens)
        if room < 0:
            raise too_long(param, length, self.max_tokens)
        # The encoder gets the padding too, masked, as the stock pipeline does it: other shapes, other
        # roundings.
        padded = torch.tensor([tokens + [self._tokenizer.pad_token_id] * room], device=self._encoder.device)
        mask = torch.tensor([[1] * length + [0] * room], device=self._encoder.device)
        try:
            hidden: Tensor = self._encoder(padded, mask).last_hidden_state
        finally:
            self._put_away()
        return F.pad(hidden[:, :length], (0, 0, 0, room))
