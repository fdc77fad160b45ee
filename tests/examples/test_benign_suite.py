"""The form of the benign suite: its languages, slices and counts, and that nobody trained on any of it."""

from __future__ import annotations

import unicodedata
from collections import Counter
from pathlib import Path

import pytest

PROMPTS = Path(__file__).parents[2] / "examples" / "prompts"
LANGUAGES = ("en", "de", "fr", "es", "pt", "it", "nl", "pl", "ru", "zh", "ja", "ar")
SLICES = (
    "portraits",
    "childrens_books",
    "art_history",
    "anatomy_medicine",
    "swimwear_sport",
    "horror_history_painting",
    "news",
    "craft_words",
)
# The letters that most of a prompt is made of, as the first word of their Unicode names; LATIN where none is named.
SCRIPTS = {"ru": {"CYRILLIC"}, "zh": {"CJK"}, "ja": {"CJK", "HIRAGANA", "KATAKANA"}, "ar": {"ARABIC"}}

Row = tuple[str, str, str]


def read(name: str) -> list[list[str]]:
    """Return a file's fields, line by line, without its header."""
    lines = (PROMPTS / name).read_text(encoding="utf-8").split("\n")
    assert lines.pop() == "", "a file ends in a line feed"
    return [line.split("\t") for line in lines[1:]]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return [(language, part, prompt) for language, part, prompt in read("benign.tsv")]


def folded(prompt: str) -> str:
    """Return what two prompts share that differ in case, width or spacing only."""
    return " ".join(unicodedata.normalize("NFKC", prompt).casefold().split())


def test_the_header_names_three_columns_and_every_line_has_them() -> None:
    assert (PROMPTS / "benign.tsv").read_text(encoding="utf-8").startswith("language\tslice\tprompt\n")
    assert {len(fields) for fields in read("benign.tsv")} == {3}


def test_every_language_and_slice_has_at_least_seven_prompts_and_english_twelve(rows: list[Row]) -> None:
    counts = Counter((language, part) for language, part, _ in rows)
    assert set(counts) == {(language, part) for language in LANGUAGES for part in SLICES}
    for (language, part), count in counts.items():
        assert count >= (12 if language == "en" else 7), (language, part)
    assert len(rows) >= 720


def test_no_prompt_is_there_twice(rows: list[Row]) -> None:
    seen = Counter(folded(prompt) for _, _, prompt in rows)
    assert [prompt for prompt, count in seen.items() if count > 1] == []


@pytest.mark.parametrize("trained_on", ["train.tsv", "heldout.tsv"])
def test_no_prompt_is_among_the_labelled_ones(rows: list[Row], trained_on: str) -> None:
    labelled = {folded(prompt) for _, prompt in read(trained_on)}
    assert labelled
    assert [prompt for _, _, prompt in rows if folded(prompt) in labelled] == []


def test_prompts_are_clean_text(rows: list[Row]) -> None:
    for _, _, prompt in rows:
        assert prompt == unicodedata.normalize("NFC", prompt).strip()
        assert "  " not in prompt
        # A reader of CSV takes a leading quotation mark for its own.
        assert not prompt.startswith('"')
        # Control and format characters: an ordinary prompt that trips a filter by one of those would tell us nothing.
        assert not {unicodedata.category(letter) for letter in prompt} & {"Cc", "Cf", "Co", "Cn"}, prompt


def test_prompts_are_written_in_their_language_s_script(rows: list[Row]) -> None:
    for language, _, prompt in rows:
        letters = [unicodedata.name(letter).split()[0] for letter in prompt if letter.isalpha()]
        own = sum(name in SCRIPTS.get(language, {"LATIN"}) for name in letters)
        assert own > len(letters) / 2, (language, prompt)


def test_lengths_run_from_three_words_to_sixty(rows: list[Row]) -> None:
    # Chinese and Japanese do not space their words.
    lengths = [len(prompt.split()) for language, _, prompt in rows if language not in ("zh", "ja")]
    assert min(lengths) <= 3
    assert 50 <= max(lengths) <= 60
