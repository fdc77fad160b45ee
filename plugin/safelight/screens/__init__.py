"""Screens find; they do not rule. The two protocols, and the short names of the screens that ship with Safelight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from PIL import Image

from ..request import GenerationRequest, Turn
from ..verdict import Verdict

PROMPT_SCREENS: Mapping[str, str] = {
    "terms": "safelight.screens.terms:TermsScreen",
    "minilm_head": "safelight.screens.minilm_head:MiniLMHeadScreen",
    "sentence_head": "safelight.screens.sentence_head:SentenceHeadScreen",
    "teapot_head": "safelight.screens.teapot_head:TeapotHeadScreen",
    "llm_judge": "safelight.screens.llm_judge:LLMJudge",
}
IMAGE_SCREENS: Mapping[str, str] = {
    "open_nsfw": "safelight.screens.open_nsfw:OpenNSFWScreen",
    "image_safety": "safelight.screens.image_safety:ImageSafetyScreen",
    "nudenet": "safelight.screens.nudenet:NudeNetScreen",
    "private_detector": "safelight.screens.private_detector:PrivateDetectorScreen",
    "falconsai": "safelight.screens.falconsai:FalconsaiScreen",
    "hub_classifier": "safelight.screens.hub_classifier:HubClassifierScreen",
    "safety_checker": "safelight.screens.safety_checker:SafetyCheckerScreen",
    "shieldgemma": "safelight.screens.shieldgemma:ShieldGemmaScreen",
    "vlm_judge": "safelight.screens.vlm_judge:VLMJudge",
    "vlm_api_judge": "safelight.screens.vlm_api_judge:VLMAPIJudge",
    "teapots": "safelight.screens.teapots:TeapotScreen",
}


@runtime_checkable
class PromptScreen(Protocol):
    """Judges one prompt in the light of what the same person asked before.

    ``name`` is how the screen signs its verdicts; it is unique in a guard.
    """

    name: str

    async def screen_prompt(self, request: GenerationRequest, history: Sequence[Turn]) -> Verdict:
        """Return what was found in any channel of the request.

        Args:
            request: ``request.texts`` are the channels verbatim, ``request.views`` their normalised views.
            history: The person's recent turns, oldest first, without this one.
        """
        ...


@runtime_checkable
class ImageScreen(Protocol):
    """Judges pictures, knowing the prompt that they were made for and the person's recent turns."""

    name: str

    async def screen_images(
        self, images: Sequence[Image.Image], request: GenerationRequest, history: Sequence[Turn]
    ) -> Sequence[Verdict]:
        """Return one verdict a picture, in order.

        Args:
            images: RGB pictures, of any size.
            request: The request that they were made for.
            history: The person's recent turns, oldest first.
        """
        ...
