"""InternVLReader against transformers' real class, small and with random weights, loaded through the real path."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from picture_fakes import noise
from safelight.backends.internvl import InternVLReader, PictureProcessor, load_processor
from safelight.errors import ConfigError
from safelight.picture_questions import NO, YES, picture_case
from safelight.request import GenerationRequest, Principal
from tiny_internvl import (
    CONTROL_TEXTS,
    PICTURE_TOKEN,
    TOKENS_A_TILE,
    chat,
    save_tiny_internvl,
    tiny_image_processor,
    tiny_reader,
    tiny_tokenizer,
)

HEAD = "language_model.lm_head.weight"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_internvl(tmp_path_factory.mktemp("models") / "tiny")


def asks(prompt: str = "a garden", **options: Any) -> GenerationRequest:
    return GenerationRequest(prompt=prompt, principal=Principal(id="tester"), **options)


def copy_of(folder: Path, target: Path, weights: Mapping[str, torch.Tensor | None]) -> Path:
    """Copy a model folder with other weights; None takes one away."""
    shutil.copytree(folder, target)
    kept = load_file(target / "model.safetensors") | dict(weights)
    save_file(
        {name: new for name, new in kept.items() if new is not None},
        target / "model.safetensors",
        metadata={"format": "pt"},
    )
    return target


def test_a_batch_of_questions_answers_as_each_question_alone(folder: Path) -> None:
    parts = tiny_reader(folder)
    picture = noise(90, 120, seed=4)
    questions = ["\nShort?", "\nA question that is a good deal longer than the one before it?", "\nAnd one more?"]
    together = parts.read(picture, rules="Look.", case="{}", questions=questions)
    for question, found in zip(questions, together, strict=True):
        (alone,) = parts.read(picture, rules="Look.", case="{}", questions=[question])
        assert found == pytest.approx(alone, abs=1e-5)


def test_the_question_and_the_picture_and_the_words_all_change_the_answer(folder: Path) -> None:
    parts = tiny_reader(folder)
    asked: dict[str, Any] = {"rules": "Look.", "case": '{"words":{}}', "questions": ["\nA hat?"]}
    usual = parts.read(noise(64, 64, seed=1), **asked)
    assert parts.read(noise(64, 64, seed=2).resize((640, 64)), **asked) != usual
    assert parts.read(noise(64, 64, seed=1), **asked | {"questions": ["\nA teapot?"]}) != usual
    assert parts.read(noise(64, 64, seed=1), **asked | {"case": '{"words":{"prompt":"x"}}'}) != usual
    assert parts.read(noise(64, 64, seed=1), **asked) == usual


def test_without_tiles_a_picture_is_one_tile_and_with_them_it_is_more(folder: Path) -> None:
    picture = noise(224, 112)
    counts = {}
    for tiles in (False, True):
        parts = tiny_reader(folder, tiles=tiles)
        inputs = parts.inputs(picture, [chat("{}", "?")])
        picture_id = parts._processor.tokenizer.convert_tokens_to_ids(PICTURE_TOKEN)
        counts[tiles] = int((inputs["input_ids"] == picture_id).sum())
        assert inputs["pixel_values"].shape[0] * TOKENS_A_TILE == counts[tiles]
    assert counts[False] == TOKENS_A_TILE
    # Two by four tiles have the picture's shape, and one shows it whole.
    assert counts[True] == 9 * TOKENS_A_TILE


def test_shrinking_a_picture_first_gives_the_pixels_that_the_processor_gives(folder: Path) -> None:
    parts = tiny_reader(folder)
    picture = noise(301, 77)
    first = parts.inputs(parts._one_tile(picture), [chat("{}", "?")])["pixel_values"]
    alone = parts.inputs(picture, [chat("{}", "?")])["pixel_values"]
    assert torch.equal(first, alone)


@pytest.mark.parametrize("text", CONTROL_TEXTS)
def test_a_control_token_in_the_prompt_stays_text(folder: Path, text: str) -> None:
    assert control_tokens(folder, f'one "{text}"\n two') == control_tokens(folder, "plain")
    # The same text pasted instead of sent as data would have counted: the test can fail.
    pasted = tiny_reader(folder)._processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert set(pasted) & set(tiny_reader(folder)._processor.tokenizer.get_added_vocab().values())


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from([*CONTROL_TEXTS, '"', "\\", "\n", "}", "\u2028", "<", "|", "é"]), min_size=1).map("".join)
)
def test_no_prompt_breaks_the_template(prompt: str) -> None:
    tokenizer = tiny_tokenizer()
    request = asks(prompt + ".")
    words = json.loads(picture_case(request, []))["words"]
    assert words == {"prompt": (prompt + ".")[:1000]}
    ids = tokenizer(picture_case(request, []), add_special_tokens=False)["input_ids"]
    assert not set(ids) & set(tokenizer.get_added_vocab().values())


def control_tokens(folder: Path, prompt: str) -> list[int]:
    """The control tokens of a whole conversation, in order."""
    parts = tiny_reader(folder)
    inputs = parts.inputs(noise(64, 64), [chat(picture_case(asks(prompt), []), "?")])
    added = set(parts._processor.tokenizer.get_added_vocab().values())
    return [token for token in inputs["input_ids"][0].tolist() if token in added]


def test_weights_that_are_no_numbers_stop_the_start(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / "model.safetensors")[HEAD] * float("nan")
    broken = copy_of(folder, tmp_path / "broken", {HEAD: weights})
    with pytest.raises(ConfigError, match="no number"):
        tiny_reader(broken)


def test_a_missing_weight_stops_the_start(folder: Path, tmp_path: Path) -> None:
    broken = copy_of(folder, tmp_path / "broken", {HEAD: None})
    with pytest.raises(ConfigError, match=r"lack.*lm_head\.weight"):
        tiny_reader(broken)


def test_a_folder_of_another_model_stops_the_start(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config["text_config"]))
    with pytest.raises(ConfigError, match="of type 'qwen2'"):
        tiny_reader(other)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "chat_template.jinja", "processor_config.json"])
def test_a_folder_without_one_of_its_parts_stops_the_start(folder: Path, tmp_path: Path, name: str) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    (other / name).unlink()
    with pytest.raises(ConfigError, match="model: "):
        tiny_reader(other)


def test_a_folder_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot load"):
        tiny_reader(tmp_path / "nowhere")


def test_a_processor_that_does_not_fit_the_model_stops_the_start(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    config = json.loads((other / "processor_config.json").read_text())
    (other / "processor_config.json").write_text(json.dumps(config | {"image_seq_length": TOKENS_A_TILE + 1}))
    with pytest.raises(ConfigError, match="cannot load"):
        tiny_reader(other)


def test_weights_in_a_pickle_are_refused(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    torch.save(load_file(other / "model.safetensors"), other / "pytorch_model.bin")
    (other / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="safetensors"):
        tiny_reader(other)


def test_an_image_processor_named_as_the_hub_names_it_is_loaded_as_the_one_on_pillow(
    folder: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    # As OpenGVLab/InternVL3-8B-hf keeps them: two files, and the class that needs torchvision.
    settings = tiny_image_processor().to_dict() | {"image_processor_type": "GotOcr2ImageProcessorFast"}
    (other / "preprocessor_config.json").write_text(json.dumps(settings | {"processor_class": "InternVLProcessor"}))
    (other / "processor_config.json").write_text(json.dumps({"image_seq_length": TOKENS_A_TILE}))
    loaded = load_processor(str(other), {})
    assert type(loaded.image_processor).__name__ == "GotOcr2ImageProcessorPil"
    assert loaded.image_processor.size["height"] == 56
    assert loaded.image_seq_length == TOKENS_A_TILE


def test_a_control_token_that_a_prompt_could_spell_stops_the_start(folder: Path) -> None:
    parts = tiny_reader(folder)
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["[END]"]})
    open_one = PictureProcessor(tiny_image_processor(), tokenizer, TOKENS_A_TILE, parts._processor.chat_template)
    with pytest.raises(ConfigError, match=r"could spell .*'\[END\]'"):
        InternVLReader(parts._model, open_one, answers=(*YES, *NO))
