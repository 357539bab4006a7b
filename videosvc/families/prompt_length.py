"""How long a text may be, counted by the tokenizer alone: a request is refused where it is made, not by a worker."""

from __future__ import annotations

import html
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer

from videosvc.errors import ModelError, UserError
from videosvc.families.checks import read_json

TOKENIZER = "tokenizer/tokenizer.json"
WAN_MAX_TOKENS = 512  # what Wan's text cross-attention was trained for; its tokenizer itself names no limit


def check_length(model: str, folder: Path, param: str, text: str) -> None:
    """Raises UserError naming `param` if the model of `folder` cannot read all of `text`, ModelError."""
    tokenizer, most = load_tokenizer(model, folder)
    tokens = len(tokenizer.encode(clean(text)).ids)
    if tokens > most:
        raise too_long(param, tokens, most)


def load_tokenizer(model: str, folder: Path) -> tuple[Tokenizer, int]:
    """The tokenizer, which cuts nothing off, and the most tokens that the model reads; kept until the file changes.

    Raises ModelError naming the file that is missing or damaged.
    """
    try:
        state = (folder / TOKENIZER).stat()
    except OSError:
        raise ModelError(f"model {model!r}: {TOKENIZER} is missing in {folder}", param="model") from None
    return _loaded(model, folder, (state.st_mtime_ns, state.st_size, state.st_ino))


@lru_cache(maxsize=16)
def _loaded(model: str, folder: Path, state: tuple[int, int, int]) -> tuple[Tokenizer, int]:
    told = read_json(model, folder, "tokenizer/tokenizer_config.json").get("model_max_length", WAN_MAX_TOKENS)
    try:
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        most = min(int(told), WAN_MAX_TOKENS)
    except Exception as error:  # the library raises nothing narrower
        raise ModelError(f"model {model!r}: {TOKENIZER} cannot be read ({error})", param="model") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer, most


def too_long(param: str, tokens: int, most: int) -> UserError:
    return UserError(f"{param}: {tokens} tokens; the model reads at most {most}", param=param)


def clean(text: str) -> str:
    """HTML entities undone, twice as captions on the web need it, and every run of white space one space."""
    return " ".join(html.unescape(html.unescape(text)).split())
