"""A vision-language model that looks at each picture, in this process, and answers one question a category.

What is covered: every category of the policy, in what the picture shows as a whole, with the words it was made from
and the person's newest turns as context. Text in the picture and in the prompt is data: the model is told so, the
prompt travels as JSON in which it can spell no control token, and the answer is read from the likelihood of Yes and No
as the first token, so there is no sentence to be talked into.
What is not covered: detail that is lost when a picture is shrunk to one tile of 448 x 448 pixels, unless ``tiles`` is
on; a model that believes what is written in a picture, which is why classifiers that read no text stand beside it and
the most severe finding wins; a model that is wrong.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..errors import ConfigError, MissingExtra
from ..instructions import UnreadableAnswer
from ..picture_questions import MIN_SHARE, NO, PICTURE_RULES, YES, picture_case, picture_questions, yes_score
from ..policy import Policy
from ..request import GenerationRequest, Turn
from ..verdict import Outcome, Stage, Verdict

if TYPE_CHECKING:
    from ..backends.internvl import InternVLReader


class VLMJudge:
    """Scores every category of the policy, 0..1, one verdict a picture: the probability of Yes among Yes and No.

    A picture's questions go through the model in one batch. Pictures, and calls, are taken one after the other.

    Args:
        policy: Whose categories are asked about.
        model: A folder, or a repository of the Hugging Face hub, with an InternVL model in transformers' own format.
        revision: The commit to load. None takes the newest, which may be another judge tomorrow.
        device: Where it runs, as torch names it; None for ``cuda`` where there is one, else ``cpu``.
        dtype: Type of the weights; None for ``bfloat16`` on a GPU, else ``float32``.
        tiles: Whether a picture is also looked at in tiles, at about ten times the cost.
        min_share: How likely Yes and No must be together, above 0 and at most 1. Below it the model was about to say
            something else, and the verdict is ``unparsable``.
        name: How the screen signs its verdicts.
        reader: What runs the model, in place of one that is loaded.

    Raises:
        MissingExtra: If torch or transformers is not installed.
        ConfigError: If the model cannot be loaded completely, knows no single token for Yes or for No, or would read
            a question of the policy as control tokens.
    """

    def __init__(
        self,
        *,
        policy: Policy,
        model: str = "OpenGVLab/InternVL3-8B-hf",
        revision: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        tiles: bool = False,
        min_share: float = MIN_SHARE,
        name: str = "vlm_judge",
        reader: InternVLReader | None = None,
    ) -> None:
        check_min_share(min_share)
        self.name = name
        self._model = f"{model}@{revision}" if revision else model
        self._min_share = min_share
        self._questions = picture_questions(policy)
        self._reader = reader or _load(model, revision=revision, device=device, dtype=dtype, tiles=tiles)
        _check_reader(self._reader, self._questions)
        # One thread of its own: calls take turns, and a call whose caller has given up never starts.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def screen_images(
        self, images: Sequence[Image.Image], request: GenerationRequest, history: Sequence[Turn]
    ) -> Sequence[Verdict]:
        """Ask every category's question about every picture.

        Raises:
            ValueError: If the model's answer is no number.
            torch.OutOfMemoryError: If the GPU's memory does not hold even one question.
        """
        case = picture_case(request, history)
        loop = asyncio.get_running_loop()
        return [await loop.run_in_executor(self._worker, self._judge, image, case) for image in images]

    def _judge(self, image: Image.Image, case: str) -> Verdict:
        started = time.perf_counter()
        answers = self._reader.read(
            image.convert("RGB"), rules=PICTURE_RULES, case=case, questions=tuple(self._questions.values())
        )
        scores: dict[str, float] = {}
        unread = ""
        for category, answer in zip(self._questions, answers, strict=True):
            try:
                scores[category] = yes_score(answer, min_share=self._min_share)
            except UnreadableAnswer as error:
                unread = error.code
        return Verdict(
            screen=self.name,
            stage=Stage.IMAGE,
            # What was found stays in a failed verdict: a category that blocks does so whatever else went wrong.
            scores=scores,
            outcome=Outcome.UNPARSABLE if unread else Outcome.OK,
            reason=unread,
            model=self._model,
            ms=(time.perf_counter() - started) * 1000,
        )


def _load(model: str, **settings: Any) -> InternVLReader:
    try:
        from ..backends.internvl import InternVLReader
    except ImportError as error:
        raise MissingExtra(error.name or "transformers", "models", needed_by="VLMJudge") from error
    return InternVLReader.load(model, answers=(*YES, *NO), **settings)


def check_min_share(min_share: float) -> None:
    """Raise ConfigError unless a share is above 0 and at most 1."""
    if isinstance(min_share, bool) or not isinstance(min_share, int | float) or not 0 < min_share <= 1:
        raise ConfigError(f"min_share: must be above 0 and at most 1, not {min_share!r}")


def _check_reader(reader: InternVLReader, questions: Mapping[str, str]) -> None:
    for side in (YES, NO):
        if not set(side) & set(reader.answers):
            raise ConfigError(f"model: its tokenizer knows none of {', '.join(map(repr, side))} as one token")
    for category, question in questions.items():
        if tokens := reader.control_tokens_in(question):
            raise ConfigError(f"policy: the title or description of {category!r} holds {', '.join(tokens)}")
