from __future__ import annotations

import random
import re
import sys
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import disguises_of_zorblax as samples
from safelight import normalise
from safelight.decode import decode
from safelight.lookalikes import plain
from safelight.normalise import MAX_READ_CHARS, MAX_TOTAL_CHARS, MAX_VIEW_CHARS, MAX_VIEWS, View, fold, views
from safelight.request import MAX_PROMPT_CHARS, GenerationRequest, Principal
from safelight.screens.terms import TermsScreen

SOMEONE = Principal("key-1")

# Something of each kind that makes a recipe give a view of its own.
DECOYS = (
    "(z:1.2) [b:c:0.3] z o r b  l a x  z0rb1@x zzoorrbb zooorb a-b xy\b \u0444илос сат em9yYmxheA== &#122; %7a "
    "zo rb la q Bear4 bearCub -... . .- .-. 626561727321 \U000e007a\U000e006f 1 @ b c Zulu Oscar Romeo \u0250 "
    "a&amp;b YmVhciBiZWFyIQ== "
)

# Characters whose folding depends on a neighbour, or whose folded forms fold further.
AWKWARD = (
    "aZ\u0130\u00df\u1e9e\u0345\u0390\u1fb3\u0430\u0457\u05d0\u0651\u0939\u093f\u094d\u304b\u3099\u1100\u1161\u11a8"
    "\ufb03\u00bd\u2460\u221e\u2229\u1d22\u3392\u0f73\u1d16_ \u2122\u20b3\u0e3f\u13c3"
)

ADVERSARIAL = {
    "spaces": " ",
    "equals signs": "=",
    "zero width": "\u200b",
    "accents": "\u0301",
    "marks of two classes": "\u094d\u093c",
    "one letter": "a",
    "letters and spaces": "a ",
    "letters and commas": "a,",
    "newlines": "a\n",
    "percent": "%25",
    "nested percent": "25",
    "entities": "&amp;",
    "nested entities": "amp;",
    "digits": "1",
    "hex": "0a ",
    "bits": "01",
    "brackets": "(",
    "angles": "<a:",
    "special tokens": "<|",
    "keywords": " AND ",
    "dots": ". ",
    "dashes": "-",
    "colons": ":",
    "signs": "a+",
    "spelling": "alfa ",
    "lines of base64": "abcd\n",
    "long ligature": "\ufdfa",
    "squared words": "\u338f\u33c2",
    "cyrillic": "\u0430",
    "backslashes": "\\x7a",
    "underscores": "_",
    "pig latin": "strstrzay ",
    "ascii85": "H>dh5",
    "punycode": "xn--",
    "schedules": "[a:",
    "choices": "{a|",
    "lists": '("a", "b").and()',
    "tags": "<b ",
    "css escapes": "\\7a",
    "base58": "A1b2C3",
    "doubled and leet": "zz00",
    "hangul parts": "\u1100\u1161",
    "signs in words": "@a",
    "weights in words": "a(b:1)",
    "regional indicators": "\U0001f1e6",
    "strokes": "\u0180\u024d",
}


async def found_by(terms: list[str], prompt: str) -> str:
    """Return the screen's reason, empty where it found nothing."""
    screen = TermsScreen(terms=terms, category="violence")
    verdict = await screen.screen_prompt(GenerationRequest(prompt, SOMEONE), [])
    assert verdict.scores["violence"] == (1.0 if verdict.reason else 0.0)
    return verdict.reason


def kinds(text: str) -> list[str]:
    return [view.kind for view in views(text)]


def read_as(text: str) -> set[str]:
    return {view.text for view in views(text)}


@pytest.mark.parametrize("name", samples.ALL)
async def test_disguised_word_is_found(name: str) -> None:
    assert await found_by(["zorblax"], samples.ALL[name])


@pytest.mark.parametrize("name", [name for name in samples.ALL if name not in samples.WHOLE_TEXTS])
async def test_disguised_word_is_found_between_lines_of_other_text(name: str) -> None:
    filler = "A lantern, a rowing boat and a stone bridge in the evening. "
    assert await found_by(["ZORBLAX"], f"{filler}\n{samples.ALL[name]}\n{filler}")


async def test_no_sample_holds_the_word_openly_but_those_that_hide_it_by_what_stands_beside_it() -> None:
    openly = [name for name, text in samples.ALL.items() if re.search(r"(?<!\w)zorblax(?!\w)", text)]
    assert set(openly) <= {"lora name", "compel signs", "special token before"}


@pytest.mark.parametrize("prompt", samples.ORDINARY)
async def test_ordinary_prompt_holds_no_forbidden_word(prompt: str) -> None:
    assert not await found_by(["zorblax", "plumbus"], prompt)


@pytest.mark.parametrize("prompt", [text for text in samples.ORDINARY if not re.search(r"\bcat\b|cat5e", text)])
async def test_ordinary_prompt_holds_no_short_word_by_accident(prompt: str) -> None:
    assert not await found_by(["cat", "rape", "hell", "nag", "ass"], prompt)


def test_there_are_enough_ordinary_prompts() -> None:
    assert len(samples.ORDINARY) >= 60


@pytest.mark.parametrize("prompt", ["a cat", "a CAT.", "a c a t sits", "c.a.t", "(c)(a)(t)", "c4t", "my_cat", "caaat"])
async def test_short_word_is_found(prompt: str) -> None:
    assert await found_by(["cat"], prompt)


@pytest.mark.parametrize("prompt", ["concatenate", "act", "taco", "a ct", "catalogue", "Come along, then", "chat"])
async def test_short_word_is_not_found_inside_others_or_by_chance(prompt: str) -> None:
    assert not await found_by(["cat"], prompt)


async def test_reversed_view_reads_every_word_backwards() -> None:
    assert "cat" in {view.text for view in views("tac") if view.kind == "reversed"}


@pytest.mark.parametrize(
    ("term", "prompt"),
    [
        ("кошка", "рыжая КОШКА на окне"),
        ("γάτα", "ΜΙΑ ΓΑΤΑ"),
        ("東京タワー", "東京タワー"),
        ("قطة", "قِطّة"),
        ("straße", "STRASSE"),
        ("İstanbul", "istanbul"),
        ("kitchen teapot", "(kitchen:1.2)(teapot:1.1)"),
        ("kitchen teapot", "kitchen AND teapot"),
        ("kitchen_teapot", "k i t c h e n   t e a p o t"),
        ("bookkeeper", "bbooookkkkeeeeppeerr"),
    ],
)
async def test_terms_of_any_alphabet_and_phrases_are_found(term: str, prompt: str) -> None:
    assert await found_by([term], prompt)


@pytest.mark.parametrize("at", [0, 1_500, MAX_PROMPT_CHARS - 8])
@pytest.mark.parametrize("filler", ["a ", "\u338f ", "\ufdfa ", "z o ", "% ", "(a:1) "])
async def test_disguised_word_is_found_anywhere_in_the_longest_prompt(at: int, filler: str) -> None:
    padding = filler * (MAX_PROMPT_CHARS // len(filler))
    prompt = padding[: at - at % len(filler)] + "z\u043erbl4x "
    assert await found_by(["zorblax"], prompt + padding[len(prompt) : MAX_PROMPT_CHARS - 1])


@pytest.mark.parametrize("name", samples.ALL)
async def test_no_decoy_pushes_a_view_out(name: str) -> None:
    assert await found_by(["zorblax"], f"{DECOYS}\n{samples.ALL[name]}\n{DECOYS}")


def test_there_are_no_more_recipes_than_views_may_be() -> None:
    assert len(set(kinds(DECOYS))) > 40
    readings = list(normalise._readings(DECOYS))
    assert MAX_VIEWS - 12 < 1 + len(readings) <= MAX_VIEWS


def test_kinds_are_unique_codes() -> None:
    found = [reading.kind for reading in normalise._readings(DECOYS)]
    assert len(found) == len(set(found))
    assert all(re.fullmatch(r"[a-z0-9_+>]+", kind) for kind in found)


def test_plain_prompt_has_few_views() -> None:
    assert kinds("a watercolour of a red teapot at dusk") == ["raw", "reversed", "rot13", "atbash", "acrostic"]
    assert max(len(views(prompt)) for prompt in samples.ORDINARY) <= 30


@pytest.mark.parametrize("prompt", samples.ORDINARY)
def test_ordinary_prompt_is_not_read_as_a_code(prompt: str) -> None:
    assert decode(plain(prompt)) == ("", plain(prompt))


def test_view_after_the_first_is_folded() -> None:
    assert [(view.kind, view.text) for view in views("A  Red\tTeapot")[:2]] == [
        ("raw", "A  Red\tTeapot"),
        ("folded", "a red teapot"),
    ]


def test_hidden_text_has_a_view_of_its_own() -> None:
    found = views("dog" + "".join(chr(0xE0000 + ord(c)) for c in "red teapot"))
    assert [view.text for view in found if view.kind == "hidden"] == ["red teapot"]


def test_flag_emoji_and_families_hide_nothing_but_the_flags_letters() -> None:
    assert [
        view.text for view in views("\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f") if view.kind == "hidden"
    ] == []


def test_nested_codes_are_named_by_their_steps() -> None:
    assert "base64>base64" in kinds(samples.ENCODED["base64 twice"])


@pytest.mark.parametrize(
    "text", ["", " ", "\x00", "\u200b", "=", "%", "&#;", "\\u", "\\ud800", "&#55296;", "%ud83d", "\ud800"]
)
def test_empty_and_broken_texts_have_views(text: str) -> None:
    assert views(text)[0] == View("raw", text)
    for view in views(text)[1:]:
        view.text.encode()


@given(st.text(st.characters(exclude_categories=())))
def test_views_hold_their_bounds_and_are_deterministic(text: str) -> None:
    check_bounds(text)
    assert views(text) == views(text)


@given(
    st.text(
        alphabet="zorblax ZX0143@|!$.-_=/+%&#;:\\ux()[]{}<>\n\b\u200b\u0301\u0430\U000e007a\u2800\u2835", max_size=300
    )
)
def test_views_hold_their_bounds_for_texts_made_of_disguises(text: str) -> None:
    check_bounds(text)


def check_bounds(text: str) -> None:
    found = views(text)
    assert found[0] == View("raw", text)
    assert len(found) <= MAX_VIEWS
    assert len({view.text for view in found}) == len(found)
    assert sum(len(view.text) for view in found[1:]) <= MAX_TOTAL_CHARS
    for view in found[1:]:
        assert 0 < len(view.text) <= MAX_VIEW_CHARS
        assert view.text == " ".join(view.text.split())
        view.text.encode()


@given(st.text())
def test_word_is_found_after_any_text(text: str) -> None:
    assert any(re.search(r"(?<!\w)zorblax(?!\w)", view.text) for view in views(f"{text}\n. z\u043erbl4x ."))


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_views_of_a_hostile_megabyte_hold_their_bounds(name: str) -> None:
    unit = ADVERSARIAL[name]
    check_bounds("%&z" + unit * (1_000_000 // len(unit)))


def test_views_of_a_long_text_are_those_of_its_beginning() -> None:
    source = random.Random(7)
    text = "".join(source.choices(" abcXYZ+/0123=", k=1_000_000))
    assert views(text)[1:] == views(text[:MAX_READ_CHARS])[1:]


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_work_and_views_grow_with_the_text_and_not_with_its_square(name: str) -> None:
    unit = ADVERSARIAL[name]
    small, large = ("%&z" + unit * (size // len(unit)) for size in (1_000, 8_000))
    # Eight times the text; a square would be sixty-four times the work. The constant is what every text costs.
    assert calls_made(large) <= 12 * calls_made(small) + 2_000
    assert sum(len(view.text) for view in views(large)) <= 10 * sum(len(view.text) for view in views(small))


def calls_made(text: str) -> int:
    """Count the function calls, Python's and C's, that the views of a text take."""
    calls = 0

    def count(frame: FrameType, event: str, arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        views(text)
    finally:
        sys.setprofile(before)
    return calls


@given(st.text())
def test_fold_is_idempotent_and_never_longer_than_four_times(text: str) -> None:
    assert fold(fold(text)) == fold(text)
    assert len(fold(text)) <= 4 * len(text)


@settings(max_examples=200)
@given(st.lists(st.sampled_from(AWKWARD), max_size=12))
def test_fold_is_idempotent_on_awkward_neighbours(chars: list[str]) -> None:
    text = "".join(chars)
    assert fold(fold(text)) == fold(text)


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("  A\u00a0Red\u3000\tTEAPOT\n", "a red teapot"),
        ("Łódź, façade, naïve, Ærø", "lodz, facade, naive, aero"),
        ("größe", "grösse".replace("ö", "o")),
        ("日本語の水彩画がきれい", "日本語の水彩画がきれい"),
        ("Тихий вечер", "тихии вечер"),
        ("مَدِينَة ١٢", "مدينة 12"),
        ("छोटा गाँव", "छोटा गाँव"),
        ("한국어", "한국어"),
        ("snake_case", "snake case"),
        ("Teapot™", "teapot"),
        ("te\u0391\u03a1\u041dOT", "teaphot"),
        ("AI画像、USBケーブル", "ai画像、usbケーブル"),
        ("\u200b\ufe0f\u2060", ""),
    ],
)
def test_fold_keeps_honest_text_readable(text: str, folded: str) -> None:
    assert fold(text) == folded
