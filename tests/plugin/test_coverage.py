from __future__ import annotations

import pytest
from PIL import Image

from safelight.coverage import forbidden, unscored
from safelight.loading import construct, load_class
from safelight.policy import Policy
from safelight.request import GenerationRequest, Principal
from safelight.screens import IMAGE_SCREENS, PROMPT_SCREENS
from safelight.screens.falconsai import LABELS
from safelight.settings import Part, read_settings

HARMLESS = Policy.shipped("harmless")
DEFAULTS = (Part("sentence_head"), Part("open_nsfw"), Part("image_safety"))


def test_the_default_screens_do_not_look_for_a_category_of_ones_own() -> None:
    assert unscored(HARMLESS, DEFAULTS) == forbidden(HARMLESS) == ("teapots",)
    named = [Part(IMAGE_SCREENS["open_nsfw"]), Part(PROMPT_SCREENS["sentence_head"])]
    assert unscored(HARMLESS, named) == ("teapots",)


@pytest.mark.parametrize(
    "part",
    [
        Part("terms", {"terms": ["teapot"], "category": "teapots"}),
        Part("hub_classifier", {"model": "some/model", "labels": {"LABEL_1": "teapots"}}),
        Part("teapot_head"),
        Part("teapots"),
        # These ask what the policy says, and nobody knows what the last one does.
        Part("llm_judge", {"model": "some/model"}),
        Part("vlm_judge"),
        Part("vlm_api_judge"),
        Part("shieldgemma", {"custom": True}),
        Part("fakes:FakeJudge"),
    ],
    ids=lambda part: part.use,
)
def test_one_screen_that_may_look_for_it_is_enough(part: Part) -> None:
    assert unscored(HARMLESS, (*DEFAULTS, part)) == ()


@pytest.mark.parametrize(
    "part",
    [
        Part("terms", {"terms": ["hate"], "category": "violence"}),
        Part("hub_classifier", {"model": "some/model", "labels": {"LABEL_1": "sexual"}}),
    ],
    ids=lambda part: part.use,
)
def test_a_screen_that_was_told_another_category_is_not(part: Part) -> None:
    assert unscored(HARMLESS, (*DEFAULTS, part)) == ("teapots",)


@pytest.mark.parametrize(
    "part", [Part("terms", {"category": ["teapots"]}), Part("hub_classifier", {"labels": "teapots"})]
)
def test_an_option_of_a_wrong_type_names_no_category_and_is_no_crash(part: Part) -> None:
    assert unscored(HARMLESS, (*DEFAULTS, part)) == ("teapots",)


def test_what_ships_is_looked_for() -> None:
    for settings in (read_settings("harmless", {}), read_settings(environ={})):
        assert unscored(settings.policy, (*settings.prompt_screens, *settings.image_screens)) == ()


async def test_the_default_screens_score_nothing_beyond_the_shipped_policy() -> None:
    shipped = Policy.shipped("default").categories
    request = GenerationRequest("a cup on a table", Principal("alice"))
    for part in DEFAULTS:
        table = PROMPT_SCREENS if part.use in PROMPT_SCREENS else IMAGE_SCREENS
        screen = construct(load_class(part.use, table, key="use"), {}, key="", collaborators={})
        if table is PROMPT_SCREENS:
            verdict = await screen.screen_prompt(request, [])
        else:
            (verdict,) = await screen.screen_images([Image.new("RGB", (64, 64), "teal")], request, [])
        assert verdict.scores
        assert verdict.scores.keys() <= shipped.keys()
    assert set(LABELS.values()) <= shipped.keys()
