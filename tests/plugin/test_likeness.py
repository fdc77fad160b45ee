from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.likeness import Wording, likeness
from safelight.rules import EnforcementRule

NEAR = EnforcementRule().near_duplicate
SCENE = "a zorblax on a carved chair in a walled garden at dusk, lanterns in the trees, oil on canvas"
TAIL = ", 4k, masterpiece, trending on artstation, highly detailed, cinematic lighting, by the same studio as always"

VARIANTS = {
    "the same": SCENE,
    "another case and spacing": SCENE.upper().replace(" ", "  "),
    "a letter changed": SCENE.replace("zorblax", "zorblux"),
    "a letter dropped": SCENE.replace("zorblax", "zrblax"),
    "leetspeak": SCENE.replace("zorblax", "z0rbl4x"),
    "a word split": SCENE.replace("zorblax", "zor blax"),
    "a word spaced out": SCENE.replace("zorblax", "z o r b l a x"),
    "a word in Cyrillic letters": SCENE.replace("o", "\u043e").replace("a", "\u0430"),
    "a word weighted": SCENE.replace("zorblax", "(zorblax:1.4)"),
    "a token swapped": SCENE.replace("zorblax", "grponyui"),
    "words in another order": " ".join(reversed(SCENE.split())),
    "phrases in another order": ", ".join(reversed(SCENE.split(", "))),
    "filler before": "best quality, I would like to see a lovely picture that shows " + SCENE,
    "filler after": SCENE + " in lovely colours and a calm mood, for my own eyes only, thank you",
    "filler around": "please paint for me " + SCENE + TAIL,
    "filler within a phrase": SCENE.replace("chair", "chair that my uncle made for us"),
    "filler and a letter": "please paint for me " + SCENE.replace("zorblax", "zorblux") + TAIL,
    "a long text around it": "The weather was fine and the boats lay still. " * 40 + SCENE + " Then they slept." * 40,
    "a line for each phrase": SCENE.replace(", ", "\n"),
}
OTHERS = {
    "another scene": "a red fox asleep under a hedge in the morning, pencil drawing",
    "another scene with the same medium": "a red fox asleep under a hedge, lanterns in the trees, oil on canvas",
    "the same garden": "a walled garden",
    "a long text of other words": "The weather was fine and the boats lay still in the harbour, gulls on every mast. "
    * 40,
    "another language": "un zorro rojo dormido bajo un seto, dibujo a lápiz",
    "nothing but signs": "!!!",
}
SAME_TAIL = [
    ("a zorblax on a chair" + TAIL, "a red fox asleep in the snow" + TAIL),
    ("zorblax" + TAIL, "fox" + TAIL),
    ("zorblax, 4k, masterpiece, trending", "tea by the sea, 4k, masterpiece, trending"),
    ("a zorblax by the sea" + TAIL, ", ".join(["a tower by a river", *reversed(TAIL.split(", "))])),
    ("masterpiece, best quality, 1 person, zorblax" + TAIL, "masterpiece, best quality, 2 foxes, snow" + TAIL),
    (
        "a zorblax. Shot on my old Leica, soft haze, baryta paper.",
        "tea. Shot on my old Leica, soft haze, baryta paper.",
    ),
    ("red hair, zorblax, garden, smile, sitting", "red hair, teapot, garden, smile, sitting"),
]


def alike(asked: str, blocked: str, **more: str) -> float:
    return likeness(Wording.of({"prompt": asked, **more}), Wording.of({"prompt": blocked}))


@pytest.mark.parametrize("asked", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize("tail", ["", TAIL], ids=["bare", "with a style tail"])
def test_a_variant_of_a_blocked_prompt_is_near(asked: str, tail: str) -> None:
    assert alike(asked + tail, SCENE + tail) >= NEAR


@pytest.mark.parametrize("asked", OTHERS.values(), ids=OTHERS.keys())
def test_another_prompt_is_not_near(asked: str) -> None:
    assert alike(asked, SCENE) < NEAR


@pytest.mark.parametrize(("blocked", "asked"), SAME_TAIL)
def test_prompts_that_share_a_style_tail_are_not_near(blocked: str, asked: str) -> None:
    assert alike(asked, blocked) < NEAR
    assert alike(blocked, asked) < NEAR


def test_a_blocked_word_or_two_are_not_looked_for_in_longer_prompts() -> None:
    assert alike("the history of the teapot, a poster for a museum", "the teapot") < NEAR


def ordinary() -> list[str]:
    lines = (Path(__file__).parents[2] / "examples" / "prompts" / "benign.tsv").read_text("utf-8").splitlines()
    return [line.split("\t")[2] for line in lines[1:]]


def blocked_of(prompt: str, chance: random.Random) -> str:
    words = prompt.split()
    words.insert(chance.randint(0, len(words)), "zorblax")
    return " ".join(words)


def shuffled(text: str, chance: random.Random) -> str:
    return " ".join(chance.sample(text.split(), len(text.split())))


CHANGES: dict[str, Callable[[str, random.Random], str]] = {
    "letter": lambda text, chance: text.replace("zorblax", chance.choice(["zorblux", "z0rblax", "zor blax", "zrblax"])),
    "filler": lambda text, chance: f"best quality, please make {text}, very nice, thank you",
    "order": shuffled,
    "tail": lambda text, chance: text + TAIL,
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_ordinary_prompts_are_near_and_different_ones_never(change: str) -> None:
    chance = random.Random(7)
    prompts = [prompt for prompt in ordinary() if len(prompt.split()) >= 8]
    assert len(prompts) > 200
    found = 0
    for prompt in chance.sample(prompts, 200):
        blocked = blocked_of(prompt, chance) + chance.choice(["", TAIL])
        found += alike(CHANGES[change](blocked, chance), blocked) >= NEAR
        other = chance.choice([text for text in prompts if text != prompt])
        assert alike(CHANGES[change](other + TAIL, chance), blocked) < NEAR
    assert found >= 190


def test_a_channel_that_repeats_another_and_a_negative_prompt_change_nothing() -> None:
    for more in ({"prompt_2": SCENE}, {"negative_prompt": "blur"}, {"negative_prompt_2": "blur", "prompt_2": SCENE}):
        assert alike(SCENE, SCENE, **more) == 1.0


def test_a_blocked_prompt_moved_to_another_channel_is_near() -> None:
    assert alike("tea by the sea", SCENE, prompt_2=SCENE) >= NEAR


@pytest.mark.parametrize(
    ("asked", "corrects"),
    [
        (SCENE.replace("zorblax ", ""), True),
        ("oil on canvas, (lanterns:1.2) in the trees", True),
        (SCENE, False),
        (SCENE.replace(" ", "  ").replace("zorblax", "(zorblax:1.2)"), False),
        (SCENE.replace("zorblax", "zorblux"), False),
        (SCENE.replace("zorblax", "teapot"), False),
        (SCENE + " zorblax", False),
    ],
)
def test_a_correction_takes_words_out_and_puts_none_in(asked: str, corrects: bool) -> None:
    assert Wording.of({"prompt": asked}).corrects(Wording.of({"prompt": SCENE})) is corrects


def test_a_correction_may_be_in_the_negative_prompt() -> None:
    blocked = Wording.of({"prompt": "tea", "negative_prompt": "zorblax, blur"})
    assert Wording.of({"prompt": "tea", "negative_prompt": "blur"}).corrects(blocked)


def test_a_style_of_few_letters_is_kept_whole() -> None:
    # Vowel signs are marks, and part of their words; an emoji is a word of its own.
    texts = ["की", "का", "🍎", "🍐", "!", "?"]
    assert len({Wording.of({"prompt": text}).canonical for text in texts}) == len(texts)


TEXTS = st.text(st.sampled_from("abz ,.(:1)xñж中🍎\n\u0301"), min_size=1, max_size=60)


@given(TEXTS, TEXTS)
def test_likeness_is_a_share_and_a_request_is_like_itself(one: str, other: str) -> None:
    asked, blocked = Wording.of({"prompt": one}), Wording.of({"prompt": other})
    exact = likeness(asked, blocked)
    assert 0.0 <= exact <= 1.0
    assert likeness(asked, asked) == (1.0 if asked.text else 0.0)
    assert not asked.corrects(asked)
    quick = likeness(asked, blocked, least=NEAR)
    assert (quick >= NEAR) == (exact >= NEAR)
