"""Runs an InternVL model in this process, and reads how likely it finds given words as the first of its answer.

The model and its processor are transformers' own classes, with safetensors weights only and no code from a repository.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from transformers import (
    AutoConfig,
    AutoTokenizer,
    # The one on Pillow, by name: without torchvision and with it, a picture gives the same numbers.
    GotOcr2ImageProcessorPil,
    InternVLForConditionalGeneration,
    InternVLProcessor,
)

from ..errors import ConfigError


class PictureProcessor(InternVLProcessor):  # type: ignore[misc]  # transformers is not typed
    """InternVL's processor without its part for films, which needs torchvision and which nothing here uses.

    ``ProcessorMixin`` takes the parts that a processor has from the parameters of its constructor.
    """

    def __init__(self, image_processor: Any, tokenizer: Any, image_seq_length: int, chat_template: str) -> None:
        super().__init__(image_processor, tokenizer, image_seq_length=image_seq_length, chat_template=chat_template)


class InternVLReader:
    """Asks several questions about one picture in one batched forward pass. Takes one call at a time.

    Args:
        model: An ``InternVLForConditionalGeneration``.
        processor: Its ``InternVLProcessor``, with a chat template.
        answers: The words whose likelihood is read. Those that the tokenizer does not know as one token are left out;
            ``self.answers`` says which are left.
        tiles: Whether a picture is also looked at in tiles, up to twelve, as the processor cuts them. That costs about
            ten times as much for a square picture of 1024 pixels; without it the whole picture is one tile.

    Raises:
        ConfigError: If the tokenizer has a control token that a person's text could spell.
    """

    def __init__(self, model: Any, processor: Any, *, answers: Sequence[str], tiles: bool = False) -> None:
        self._model = model
        self._processor = processor
        self._tiles = tiles
        self._check_control_tokens()
        self._ids = _single_tokens(processor.tokenizer, answers)
        self.answers = tuple(self._ids)

    def _check_control_tokens(self) -> None:
        # People's texts come as JSON without a "<" (instructions.as_data), so they can spell none that has one.
        own = self._processor
        known = {*own.tokenizer.all_special_tokens, own.image_token, own.video_token}
        if open_ones := sorted(token for token in known if "<" not in token):
            raise ConfigError(f"model: a prompt could spell the control tokens {', '.join(map(repr, open_ones))}")

    @classmethod
    def load(
        cls,
        model: str,
        *,
        answers: Sequence[str],
        revision: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        tiles: bool = False,
    ) -> InternVLReader:
        """Load a model from a folder, or from the Hugging Face hub.

        Args:
            model: The folder, or the repository's name. It must be one in transformers' own format (``...-hf``).
            answers: See the class.
            revision: The commit to load, or None for the newest.
            device: Where it runs, as torch names it; None for ``cuda`` where there is one, else ``cpu``.
            dtype: Type of the weights, as torch names it; None for ``bfloat16`` on a GPU, else ``float32``.
            tiles: See the class.

        Raises:
            ConfigError: If it is no complete InternVL model with safetensors weights, or a setting is unknown.
        """
        place = _device(device)
        options = {"revision": revision, "trust_remote_code": False}
        weights = _dtype(dtype, place)
        try:
            network = _load_model(model, weights, options)
            processor = load_processor(model, options)
            reader = cls(network.to(place).eval(), processor, answers=answers, tiles=tiles)
            # Parts that do not fit together, and weights that are no numbers, show in a first answer and not before.
            reader.read(Image.new("RGB", (64, 64)), rules="", case="", questions=[""])
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RuntimeError) as error:
            # One line: transformers' messages run over many, and the last ones advise what must not be done here.
            problem = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ConfigError(f"model: cannot load an InternVL model from {model!r}: {problem}") from error
        return reader

    def control_tokens_in(self, text: str) -> tuple[str, ...]:
        """Return the control tokens that a text would be read as, for texts that are not sent as data."""
        known = {*self._processor.tokenizer.get_added_vocab(), self._processor.video_token}
        return tuple(sorted(token for token in known if token in text))

    def read(
        self, picture: Image.Image, *, rules: str, case: str, questions: Sequence[str]
    ) -> list[Mapping[str, float]]:
        """Return for each question the natural log probabilities of the answers as the first token.

        If the GPU's memory does not hold all questions at once, they are asked once more one by one.

        Args:
            picture: An RGB picture of any size.
            rules: The system message.
            case: A JSON object that stands after the picture.
            questions: What stands last; one answer each, in order.

        Raises:
            ValueError: If the model's answer is no number.
            torch.OutOfMemoryError: If the memory does not hold even one question.
        """
        chats = [_chat(rules, case, question) for question in questions]
        picture = picture if self._tiles else self._one_tile(picture)
        try:
            return self._forward(picture, chats)
        except torch.OutOfMemoryError:
            # Retried below and not here, where the error's traceback still holds the tensors that did not fit.
            pass
        torch.cuda.empty_cache()
        return [answer for chat in chats for answer in self._forward(picture, [chat])]

    def _one_tile(self, picture: Image.Image) -> Image.Image:
        # What the processor would do, but once for a picture and not once for each question.
        size = self._processor.image_processor.size
        return picture.resize((size["width"], size["height"]), Image.Resampling.BICUBIC)

    def _forward(self, picture: Image.Image, chats: Sequence[Any]) -> list[Mapping[str, float]]:
        inputs = self.inputs(picture, chats).to(self._model.device)
        mask = inputs["attention_mask"]
        with torch.inference_mode():
            logits = self._model(
                input_ids=inputs["input_ids"],
                attention_mask=mask,
                pixel_values=inputs["pixel_values"],
                # Counted from the first real token, so that a question's answer does not depend on the longest one.
                position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
                logits_to_keep=1,
                use_cache=False,
            ).logits[:, -1]
            likely = torch.log_softmax(logits.float(), dim=-1)[:, list(self._ids.values())].cpu()
        if likely.shape[0] != len(chats) or not torch.isfinite(likely).all():
            raise ValueError("the vision-language model answered with something that is no number")
        return [dict(zip(self._ids, row, strict=True)) for row in likely.tolist()]

    def inputs(self, picture: Image.Image, chats: Sequence[Any]) -> Any:
        """Return what the model is given: ``input_ids`` and ``attention_mask`` (n x length), ``pixel_values``.

        Args:
            picture: Shown in each chat.
            chats: Conversations with one picture each.
        """
        texts = self._processor.apply_chat_template(list(chats), add_generation_prompt=True, tokenize=False)
        return self._processor(
            images=[[picture] for _ in texts],
            text=texts,
            return_tensors="pt",
            # On the left: the last position of every row is then where its answer begins.
            text_kwargs={"padding": True, "padding_side": "left"},
            images_kwargs={"crop_to_patches": self._tiles},
        )


def _chat(rules: str, case: str, question: str) -> list[dict[str, Any]]:
    asked = [{"type": "image"}, {"type": "text", "text": case}, {"type": "text", "text": question}]
    return [{"role": "system", "content": [{"type": "text", "text": rules}]}, {"role": "user", "content": asked}]


def _single_tokens(tokenizer: Any, words: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for word in words:
        ids = tokenizer.encode(word, add_special_tokens=False)
        # Some tokenizers drop a leading space; one token must not count twice.
        if len(ids) == 1 and ids[0] not in found.values() and ids[0] != tokenizer.unk_token_id:
            found[word] = ids[0]
    return found


def _device(name: str | None) -> torch.device:
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found: torch.device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device: torch knows no {name!r}") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device: {name!r} is not there: torch finds no CUDA GPU")
    return found


def _dtype(name: str | None, place: torch.device) -> torch.dtype:
    if name is None:
        name = "bfloat16" if place.type == "cuda" else "float32"
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ConfigError(f"dtype: must be one of torch's floating point types, not {name!r}")
    return found


def _load_model(model: str, dtype: torch.dtype, options: Mapping[str, Any]) -> Any:
    config = AutoConfig.from_pretrained(model, **options)
    # transformers loads any model's folder into any class, and fills what does not fit with noise.
    if config.model_type != "internvl":
        raise ValueError(f"it is of type {config.model_type!r}; use one in transformers' own format (...-hf)")
    network, report = InternVLForConditionalGeneration.from_pretrained(
        model, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
    )
    if lacking := [*report["missing_keys"], *report["mismatched_keys"]]:
        raise ValueError(f"its weights lack, or have in another shape, {', '.join(sorted(map(str, lacking))[:3])}")
    return network


def load_processor(model: str, options: Mapping[str, Any]) -> PictureProcessor:
    """Return a model's processor, loaded part by part.

    Args:
        model: A folder or a repository's name.
        options: Further arguments of ``from_pretrained``.
    """
    kept, _ = InternVLProcessor.get_processor_dict(model, **options)
    tokenizer = AutoTokenizer.from_pretrained(model, **options)
    images = GotOcr2ImageProcessorPil.from_pretrained(model, **options)
    template = kept.get("chat_template") or tokenizer.chat_template
    if not isinstance(template, str):
        raise ValueError("it has no chat template")
    # 256 is the processor's own default, and what InternVL3 needs.
    return PictureProcessor(images, tokenizer, kept.get("image_seq_length", 256), template)
