from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tiny_model import MAX_TOKENS
from videosvc.errors import UserError
from videosvc.families.anyflow_far import AnyFlowFAR
from videosvc.families.prompt_encoder import remembered
from videosvc.families.prompt_length import clean


@pytest.fixture(scope="module")
def family(causal_folder: Path) -> AnyFlowFAR:
    return AnyFlowFAR("tiny", causal_folder, 1, torch.device("cpu"), torch.float32)


def test_names_words_it_does_not_know(family: AnyFlowFAR) -> None:
    text = family.encode_text("A red zebra over the quagga zebra", None)
    assert text.unknown_words == ("zebra", "quagga")
    assert text.negative is None


@pytest.mark.parametrize("text", ["🎈🎈", "!!!", "&nbsp;"])
def test_names_the_whole_of_what_it_reads_nothing_in(text: str, family: AnyFlowFAR) -> None:
    assert family.encode_text(text, None).unknown_words == (text,)


def test_padding_is_zero(family: AnyFlowFAR) -> None:
    text = family.encode_text("a red circle", "")
    assert text.negative is not None
    assert text.prompt.shape == text.negative.shape == (1, MAX_TOKENS, 16)
    assert text.prompt[0, :4].abs().sum(-1).min() > 0  # three words and the end mark
    assert text.prompt[0, 4:].abs().max() == 0
    assert text.negative[0, 1:].abs().max() == 0


def test_a_text_is_encoded_once(family: AnyFlowFAR) -> None:
    first = family.encode_text("a green square", "a mess")
    again = family.encode_text("a  green square", "a mess")  # white space is no difference
    other = family.encode_text("a green circle", "a mess")
    assert again.prompt is first.prompt and again.negative is first.negative is other.negative
    assert not torch.equal(first.prompt, other.prompt)


def test_counts_what_it_remembered(family: AnyFlowFAR) -> None:
    before = remembered.copy()
    for prompt, negative in (("a blue sky", None), ("a blue sky", "the sea"), ("a blue sky", "the sea")):
        family.encode_text(prompt, negative)
    assert remembered - before == {"hits": 3, "misses": 2}


@pytest.mark.parametrize("param", ["prompt", "negative_prompt"])
def test_refuses_what_would_be_cut_off(family: AnyFlowFAR, param: str) -> None:
    long = "red " * MAX_TOKENS
    with pytest.raises(UserError, match=rf"^{param}: {MAX_TOKENS + 1} tokens.* at most {MAX_TOKENS}") as caught:
        family.encode_text(*(long, None) if param == "prompt" else ("red", long))
    assert caught.value.param == param


def test_cleans_as_the_stock_pipeline_does() -> None:
    assert clean("  salt &amp;amp; pepper\n\tagain ") == "salt & pepper again"
