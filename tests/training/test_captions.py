from __future__ import annotations

import random
from dataclasses import replace

import pytest

from training.toyworld import vocabulary as words
from training.toyworld.captions import (
    ATTRIBUTES,
    BACKGROUNDS,
    CAMERA,
    COLOURS,
    KINDS,
    MOTIONS,
    SIZES,
    attributes,
    caption,
    held_out,
    split_words,
    vocabulary,
)
from training.toyworld.text import MAX_WORDS, make_tokenizer
from training.toyworld.world import Scene, sample_scene


@pytest.fixture(scope="module")
def captioned() -> list[tuple[Scene, str]]:
    rng = random.Random(1)
    scenes = [sample_scene(rng) for _ in range(1500)]
    return [(scene, caption(scene, rng)) for scene in scenes]


def says(text: str, phrases: tuple[str, ...]) -> bool:
    return any(f" {phrase} " in f" {' '.join(split_words(text))} " for phrase in phrases)


def test_phrases_are_there_for_all_the_world_knows() -> None:
    tables = (COLOURS, KINDS, SIZES, MOTIONS, BACKGROUNDS)
    known = (words.COLOURS, words.KINDS, words.SIZES, words.MOTIONS, words.BACKGROUNDS)
    for table, names in zip(tables, known, strict=True):
        assert set(table) == set(names) and all(table.values())


def test_captions_say_what_is_shown(captioned: list[tuple[Scene, str]]) -> None:
    for scene, text in captioned:
        for thing in scene.things:
            for table, name in ((COLOURS, thing.colour), (KINDS, thing.kind), (MOTIONS, thing.motion)):
                assert says(text, table[name]), (text, name)
        assert says(text, BACKGROUNDS[scene.background]), text
        assert says(text, CAMERA) == (scene.camera == "pan"), text


def test_captions_vary() -> None:
    scene, rng = sample_scene(random.Random(2)), random.Random(3)
    assert len({caption(scene, rng) for _ in range(100)}) > 80


def test_every_word_is_in_the_vocabulary(captioned: list[tuple[Scene, str]]) -> None:
    known = vocabulary()
    assert known == sorted(set(known))
    assert {word for _, text in captioned for word in split_words(text)} <= set(known)


def test_the_tokenizer_knows_and_holds_every_caption(captioned: list[tuple[Scene, str]]) -> None:
    tokenizer = make_tokenizer()
    for ids in tokenizer([text for _, text in captioned]).input_ids:
        assert tokenizer.unk_token_id not in ids and len(ids) <= MAX_WORDS
    assert tokenizer("a red teapot!").input_ids[2] == tokenizer.unk_token_id
    assert tokenizer("A RED, circle").input_ids == tokenizer("a red circle").input_ids


def test_a_tenth_of_the_combinations_is_held_out(captioned: list[tuple[Scene, str]]) -> None:
    assert 0.08 < sum(held_out(scene) for scene, _ in captioned) / len(captioned) < 0.12


def test_what_is_held_out_is_a_combination_not_a_clip(captioned: list[tuple[Scene, str]]) -> None:
    for scene, _ in captioned:
        first = replace(scene.things[0], x=0.1, phase=0.0, size="small")
        assert held_out(scene) == held_out(Scene((first,), scene.background, "pan"))


def test_attributes_read_back(captioned: list[tuple[Scene, str]]) -> None:
    for scene, _ in captioned:
        read = {name: values[i] for (name, values), i in zip(ATTRIBUTES.items(), attributes(scene), strict=True)}
        assert (read["background"], read["camera"]) == (scene.background, scene.camera)
        for i, thing in enumerate(scene.things, 1):
            assert (read[f"kind {i}"], read[f"colour {i}"], read[f"motion {i}"]) == (
                thing.kind,
                thing.colour,
                thing.motion,
            )
        assert len(scene.things) == 2 or read["kind 2"] == read["colour 2"] == read["motion 2"] == "none"
