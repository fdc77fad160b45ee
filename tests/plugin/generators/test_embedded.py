from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.utils import logging as diffusers_logging
from embedded_model.captions import SCENE_WORDS
from embedded_model.colours import COLOURS
from embedded_model.pictures import NOUNS
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from safelight.errors import ConfigError
from safelight.generators import GENERATORS, Generator, embedded_words
from safelight.generators.embedded import GUIDANCE, STEPS, EmbeddedGenerator, enlarged, load
from safelight.loading import construct, load_class
from safelight.request import GenerationRequest, Principal
from seen_colours import leading, unrest

APPLE = GenerationRequest("a red apple", Principal("alice"), seed=5)
QUICK = replace(APPLE, width=64, height=64, steps=2)


def nothing(done: int, total: int) -> None:
    pass


@pytest.fixture(scope="module")
def generator() -> EmbeddedGenerator:
    return EmbeddedGenerator()


def drawn(generator: EmbeddedGenerator, prompt: str, **more: object) -> Image.Image:
    (picture,) = generator.generate(replace(APPLE, prompt=prompt, width=64, height=64, **more), nothing)  # type: ignore[arg-type]
    return picture


def test_it_says_what_it_is(generator: EmbeddedGenerator) -> None:
    assert isinstance(generator, Generator)
    assert generator.name == "safelight-embedded-sdxl"
    for word in ("31 things", "11 colours", "7 places", "empty scene", "diffusers"):
        assert word in generator.note


def test_the_words_that_it_says_it_knows_are_those_that_it_was_trained_on() -> None:
    assert set(embedded_words.THINGS) == set(NOUNS)
    assert set(embedded_words.COLOURS) == set(COLOURS)
    assert set(embedded_words.PLACES) == {words[0] for scene, words in SCENE_WORDS.items() if scene != "plain"}


def test_every_example_is_made_of_words_that_it_knows() -> None:
    known = {word for words in embedded_words.KNOWS.values() for phrase in words for word in phrase.split()} | {"a"}
    for prompt in embedded_words.EXAMPLES:
        words = re.findall("[a-z]+", prompt)
        assert set(words) <= known
        assert len(set(words) & set(embedded_words.THINGS)) == 1


def test_what_is_loaded_is_a_true_sdxl_in_single_precision() -> None:
    pipe = load()
    assert type(pipe) is StableDiffusionXLPipeline
    assert pipe.vae_scale_factor == 8
    models = (pipe.unet, pipe.vae, pipe.text_encoder, pipe.text_encoder_2)
    assert {weight.dtype for model in models for weight in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("prompt", "colour"),
    [("a red apple", "red"), ("a blue car", "blue"), ("flower, purple", "purple"), ("a green house", "green")],
)
def test_a_thing_has_the_colour_that_was_asked_for(generator: EmbeddedGenerator, prompt: str, colour: str) -> None:
    assert leading(drawn(generator, prompt)) == colour


def test_another_thing_is_another_picture(generator: EmbeddedGenerator) -> None:
    apple, boat = (np.asarray(drawn(generator, f"a red {thing}"), int) for thing in ("apple", "boat"))
    assert np.abs(apple - boat).mean() > 13


def test_a_word_that_it_does_not_know_gives_an_empty_scene(generator: EmbeddedGenerator) -> None:
    assert unrest(drawn(generator, "a zorblax")) < unrest(drawn(generator, "a red apple")) / 3


@pytest.mark.parametrize("prompt", ["Ж" * 3999, "\n", "<|endoftext|>", "🫖", "a\u0301" * 100])
def test_no_text_at_all_is_an_error(generator: EmbeddedGenerator, prompt: str) -> None:
    assert drawn(generator, f"{prompt}.", steps=1).size == (64, 64)


@pytest.mark.parametrize(
    "size",
    [(8, 8), (64, 64), (333, 77), (256, 256), (512, 512), (1024, 1024), (1792, 1024), (1024, 1792), (4096, 8)],
)
def test_every_size_that_clients_ask_for_is_answered_exactly(
    generator: EmbeddedGenerator, size: tuple[int, int]
) -> None:
    (picture,) = generator.generate(replace(QUICK, width=size[0], height=size[1]), nothing)
    assert (picture.size, picture.mode) == (size, "RGB")


def test_without_a_size_it_has_its_own(generator: EmbeddedGenerator) -> None:
    (picture,) = generator.generate(replace(QUICK, width=None, height=None), nothing)
    assert picture.size == (512, 512)


@given(st.integers(8, 200), st.integers(8, 200))
def test_a_longer_picture_is_the_square_one_with_its_surroundings_going_on(width: int, height: int) -> None:
    drawing = Image.linear_gradient("L").rotate(30).resize((64, 64)).convert("RGB")
    side = min(width, height)
    picture = enlarged(drawing, (width, height))
    assert picture.size == (width, height)
    # Seen as a wide one, whichever way it is longer.
    pixels, square = np.asarray(picture), np.asarray(enlarged(drawing, (side, side)))
    wide, square = (pixels, square) if width > height else (pixels.swapaxes(0, 1), square.swapaxes(0, 1))
    left, margin = (max(width, height) - side) // 2, max(1, side * 6 // 64)
    kept = slice(margin, side - margin)
    assert np.array_equal(wide[:, left : left + side][:, kept], square[:, kept])
    assert (wide[:, :left] == wide[:, :1]).all()
    assert (wide[:, left + side :] == wide[:, -1:]).all()


@given(st.integers(1, 40), st.integers(1, 40))
@example(1, 1)
@example(2, 1)
@example(1, 2)
@example(3, 2)
def test_a_picture_of_any_size_is_exactly_as_large_and_of_the_same_colour(width: int, height: int) -> None:
    picture = enlarged(Image.new("RGB", (64, 64), (90, 160, 230)), (width, height))
    assert picture.size == (width, height)
    assert picture.getcolors() == [(width * height, (90, 160, 230))]


def test_nothing_at_an_edge_becomes_a_streak_and_no_seam_is_seen() -> None:
    drawing = Image.new("RGB", (64, 64), (90, 160, 230))
    drawing.paste((255, 255, 255), (0, 0, 2, 10))
    for size in ((512, 256), (256, 512)):
        pixels = np.asarray(enlarged(drawing, size), int)
        assert (pixels[0, 0] == (90, 160, 230)).all()
        assert max(np.abs(np.diff(pixels, axis=axis)).max() for axis in (0, 1)) < 60


def test_a_picture_can_be_made_again_by_another_generator(generator: EmbeddedGenerator) -> None:
    (first,) = generator.generate(QUICK, nothing)
    (second,) = EmbeddedGenerator().generate(QUICK, nothing)
    assert first.tobytes() == second.tobytes()


def test_several_pictures_differ_and_can_be_made_again_alone(generator: EmbeddedGenerator) -> None:
    pictures = generator.generate(replace(QUICK, n=3), nothing)
    (third,) = generator.generate(replace(QUICK, seed=7), nothing)
    assert len({picture.tobytes() for picture in pictures}) == 3
    assert pictures[2].tobytes() == third.tobytes()


def test_it_has_a_guidance_of_its_own_which_a_request_overrules(generator: EmbeddedGenerator) -> None:
    own, same, other = (
        generator.generate(replace(QUICK, guidance_scale=scale), nothing)[0].tobytes() for scale in (None, GUIDANCE, 9)
    )
    assert own == same != other


class Stopped(Exception):
    pass


def test_it_can_be_stopped_at_a_step_and_used_again(generator: EmbeddedGenerator) -> None:
    seen: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 3:
            raise Stopped

    with pytest.raises(Stopped):
        generator.generate(replace(QUICK, steps=None), stop)
    assert seen == [(1, STEPS), (2, STEPS), (3, STEPS)]
    assert len(generator.generate(QUICK, nothing)) == 1


def test_loading_prints_nothing_and_puts_the_libraries_back(capfd: pytest.CaptureFixture[str]) -> None:
    before = diffusers_logging.get_verbosity(), diffusers_logging.is_progress_bar_enabled()
    EmbeddedGenerator()
    assert (diffusers_logging.get_verbosity(), diffusers_logging.is_progress_bar_enabled()) == before
    assert "".join(capfd.readouterr()) == ""


def test_no_threads_at_all_are_refused() -> None:
    with pytest.raises(ConfigError, match="generator.threads"):
        EmbeddedGenerator(threads=0)


def test_a_cache_folder_is_refused_by_name_since_nothing_is_built_any_more() -> None:
    cls = load_class("embedded", GENERATORS, key="generator.use")
    with pytest.raises(ConfigError, match="generator.cache_dir: unknown key; EmbeddedGenerator takes threads"):
        construct(cls, {"cache_dir": "/tmp/x"}, key="generator", collaborators={})
