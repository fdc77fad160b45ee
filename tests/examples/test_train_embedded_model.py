"""The embedded model's small world, and its training on numbers so small that only the way is tested."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from embedded_model import train_autoencoder as first_stage
from embedded_model.captions import COLOUR_WORDS, NOUN_WORDS, SCENE_WORDS, any_hidden, caption, strange_words
from embedded_model.colours import COLOURS
from embedded_model.evaluate import Share, asked, drawn, sheet
from embedded_model.export import export, megabytes, pipeline
from embedded_model.parts import autoencoder
from embedded_model.pictures import NOUNS, USUAL, Motif, any_motif, draw
from embedded_model.scenes import SCENES
from embedded_model.train_autoencoder import rendered, signal_to_noise, train_autoencoder
from embedded_model.train_denoiser import train_denoiser
from embedded_model.vocabulary import kept_tokenizer, tokenizer

from safelight.generators.embedded_files import SHA256, sha256_by_name


def quiet(done: int, total: int, note: str) -> None:
    """Show nothing."""


@pytest.mark.parametrize("noun", NOUNS)
def test_a_picture_shows_its_thing_in_its_colour(noun: str) -> None:
    for colour, asked_for in COLOURS.items():
        empty = np.asarray(draw(Motif("", colour, "plain"), random.Random(5)), dtype=float)
        picture = np.asarray(draw(Motif(noun, colour, "plain"), random.Random(5)), dtype=float)
        assert picture.shape == (64, 64, 3)
        thing = picture[np.abs(picture - empty).max(axis=2) > 4]
        near = np.abs(thing - asked_for).max(axis=1) < 6
        # Edges and small parts are of other colours.
        assert near.mean() > 0.3, (noun, colour, near.mean())


def test_the_same_chance_draws_the_same_picture_and_another_one_another() -> None:
    motif = Motif("cat", "blue", "night")
    first, again, other = (np.asarray(draw(motif, random.Random(seed))) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_a_caption_names_the_thing_and_leaves_only_usual_colours_out() -> None:
    chance = random.Random(3)
    for _ in range(2_000):
        motif = any_motif(chance)
        text = caption(motif, chance)
        assert any(word in text for word in NOUN_WORDS[motif.noun]), text
        if not any(word in text for word in COLOUR_WORDS[motif.colour]):
            assert motif.colour in USUAL.get(motif.noun, COLOURS), text


def test_a_caption_of_strange_words_names_nothing_that_the_model_knows() -> None:
    chance = random.Random(3)
    texts = [text for group in (NOUN_WORDS, COLOUR_WORDS) for texts in group.values() for text in texts]
    places = {word for texts in SCENE_WORDS.values() for text in texts for word in text.split()}
    known = {word for text in texts for word in text.split()} - places
    assert len(strange_words()) > 1_000
    for _ in range(300):
        assert not known & set(caption(any_hidden(chance), chance).replace(",", " ").split())


def test_words_are_there_for_everything_that_can_be_drawn() -> None:
    assert set(NOUN_WORDS) == set(NOUNS)
    assert set(COLOUR_WORDS) == set(COLOURS)
    assert set(SCENE_WORDS) == set(SCENES)
    assert 20 <= len(NOUNS) - 6 <= 40


def test_no_text_is_out_of_vocabulary_and_known_words_are_one_token() -> None:
    words = tokenizer(1)
    assert words.convert_ids_to_tokens(words("a red teapot").input_ids)[1:-1] == ["a</w>", "red</w>", "teapot</w>"]
    for text in ("zorblax", "émigré", "茶", "🫖", "\x07"):
        assert words.unk_token_id not in words(text).input_ids[1:-1]


def test_a_tokenizer_stays_what_it_was_when_training_goes_on(tmp_path: Path) -> None:
    first, again = kept_tokenizer(tmp_path, 1), kept_tokenizer(tmp_path, 2)
    assert first.get_vocab() == again.get_vocab()
    assert again.model_max_length == 77


def test_training_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_stage, "PICTURES", 16)
    seen: list[int] = []

    def show(done: int, total: int, note: str) -> None:
        seen.append(done)

    train_autoencoder(tmp_path, device="cpu", seed=1, steps=2, show=show)
    model = train_autoencoder(tmp_path, device="cpu", seed=1, steps=3, show=show)
    assert seen == [1, 2, 3]
    again = train_autoencoder(tmp_path, device="cpu", seed=1, steps=3, show=show)
    assert seen == [1, 2, 3]
    for one, other in zip(model.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_what_is_trained_becomes_a_pipeline_that_draws_from_its_files(tmp_path: Path) -> None:
    words, decoder = tokenizer(1), autoencoder().eval()
    model, scale = train_denoiser(tmp_path, decoder, words, device="cpu", seed=1, steps=1, pictures=8, show=quiet)
    export(pipeline(decoder, model, words, scale), tmp_path / "out")
    assert set(sha256_by_name(tmp_path / "out")) == set(SHA256)
    assert megabytes(tmp_path / "out") < 30
    pipe = StableDiffusionXLPipeline.from_pretrained(
        tmp_path / "out", dtype=torch.float32, local_files_only=True, add_watermarker=False
    )
    pipe.set_progress_bar_config(disable=True)
    pictures = list(drawn(pipe, ["a red apple", ""], seed=1, steps=1))
    assert [picture.size for picture in pictures] == [(64, 64)] * 2
    assert sheet(pictures, None).size == sheet(pictures, ["a red apple", ""]).size
    assert 0 < signal_to_noise(decoder, rendered(4, 1)) < 30


def test_prompts_of_the_figures_go_through_everything_evenly() -> None:
    prompts = asked(341, seed=1)
    assert len({(one.motif.noun, one.motif.colour) for one in prompts}) > 200
    for noun in NOUNS:
        assert sum(one.motif.noun == noun for one in prompts) == 11
    for colour in COLOURS:
        assert sum(one.motif.colour == colour for one in prompts) == 31
    assert all(one.motif.noun in one.prompt and one.motif.colour in one.prompt for one in prompts)


def test_a_share_comes_with_its_interval() -> None:
    assert str(Share(right=0, cases=1_000)) == "0.0 % (0 of 1000; 95 % interval 0.0 to 0.4)"
    assert str(Share(right=425, cases=500)) == "85.0 % (425 of 500; 95 % interval 81.6 to 87.9)"
