"""Which views are shown to a judge and an operator, and what they are told about them."""

from __future__ import annotations

import csv
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import disguises_of_zorblax as samples
from safelight import characters, traces
from safelight.normalise import MAX_EVIDENT, NORMALISER_VERSION, View, evident, fold, views

PROMPTS = Path(__file__).parents[2] / "examples" / "prompts"


def ordinary_prompts() -> Iterator[str]:
    yield from samples.ORDINARY
    # Tries to get a teapot are disguised on purpose.
    for file in sorted({*PROMPTS.glob("*.tsv")} - {PROMPTS / "teapots.tsv", PROMPTS / "teapot_attempts.tsv"}):
        with file.open(encoding="utf-8", newline="") as lines:
            yield from (row["prompt"] for row in csv.DictReader(lines, delimiter="\t"))


def remarks(text: str) -> set[str]:
    return {view.why for view in evident(views(text))}


def test_version_is_a_number_for_a_cache_key() -> None:
    assert isinstance(NORMALISER_VERSION, int)
    assert NORMALISER_VERSION > 1


def test_there_are_enough_disguises_with_a_trace() -> None:
    assert len(samples.ALL) >= 190
    assert len(samples.ALL.keys() - samples.OPEN - samples.BLIND) >= 170
    assert samples.BLIND <= samples.ALL.keys()


@pytest.mark.parametrize("name", sorted(samples.ALL.keys() - samples.OPEN - samples.BLIND))
def test_disguise_that_hides_the_word_has_an_evident_view_with_it(name: str) -> None:
    shown = evident(views(samples.ALL[name]))
    assert any(re.search(r"(?<!\w)zorblax(?!\w)", view.text) for view in shown), shown


@pytest.mark.parametrize("name", samples.ALL)
def test_evident_views_are_few_views_of_the_text_with_a_remark(name: str) -> None:
    found = views(samples.ALL[name])
    shown = evident(found)
    assert len(shown) <= MAX_EVIDENT
    assert set(shown) <= set(found[1:])
    assert all(view.evident and view.why for view in shown)


def test_ordinary_prompts_have_next_to_no_evident_views() -> None:
    prompts = list(ordinary_prompts())
    disguised = [prompt for prompt in prompts if evident(views(prompt))]
    assert len(prompts) > 900
    assert len(disguised) <= 0.01 * len(prompts), disguised


def test_prompts_of_every_kind_and_language_that_is_sampled_have_no_evident_view() -> None:
    disguised = [prompt for prompt in samples.ORDINARY if evident(views(prompt))]
    # A schedule, three words with an optional ending, an address of single letters.
    assert len(disguised) <= 3, disguised


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        ("te\u200bapot", "invisible characters removed"),
        ("te\u0430pot", "lookalike letters read as Latin"),
        ("a big сору on a wall", "lookalike letters read as Latin"),
        ("\U0001d42d\U0001d41e\U0001d41a\U0001d429\U0001d428\U0001d42d", "styled letters read as plain ones"),
        ("t\u0317\u0317\u0317eapot", "marks on letters removed"),
        ("tea\bapot", "backspaces applied"),
        ("(tea:1.2)(pot:1.2)", "prompt syntax inside words removed"),
        ("tea<|im_end|>pot", "special tokens removed"),
        ("[tea:pot:0.5]", "scheduled or combined prompts joined"),
        ("t3ap0t", "digits and signs read as letters"),
        ("t e a p o t", "spaced-out words joined"),
        ("tteeaappoott", "repeated letters read as one"),
        ("dGVhcG90IGFuZCBjdXA=", "base64 decoded"),
        ("t\\x65\\x61pot", "escaped bytes decoded"),
        ("hidden" + "".join(chr(0xE0000 + ord(char)) for char in "teapot"), "text hidden in invisible characters"),
    ],
)
def test_remark_says_what_was_undone(text: str, remark: str) -> None:
    assert remark in remarks(text)


def test_shifted_alphabet_is_evident_where_the_whole_text_is_shifted() -> None:
    shifted = "".join(chr((ord(c) - 97 + 3) % 26 + 97) if c.isalpha() else c for c in "the old teapot on the table")
    assert remarks(shifted) == {"letters shifted by 23"}


def test_every_view_but_the_raw_one_has_a_remark() -> None:
    for text in samples.ALL.values():
        raw, *others = views(text)
        assert raw == View("raw", text)
        assert all(view.why for view in others)


def test_many_disguises_of_one_kind_leave_room_for_the_others() -> None:
    text = "z0rb1ax z o r b 1 4 x (zor:1.2)(blax:1.2) zzoorrbbllaaxx em9yYmxheA== te\u200bapot"
    shown = evident(views(text))
    assert len(shown) == MAX_EVIDENT
    assert len({view.kind.split(">")[0] for view in shown}) == MAX_EVIDENT


@given(st.text("zorblax ZX0143@|!$.-_=/+%&#;:\\ux()[]{}<>\n\b\u200b\u0301\u0430\U000e007a\u2835", max_size=120))
def test_evident_views_of_any_text_are_bounded(text: str) -> None:
    shown = evident(views(text))
    assert len(shown) <= MAX_EVIDENT
    assert len({view.text for view in shown}) == len(shown)


@given(st.text(st.characters(exclude_categories=())))
def test_traces_never_fail(text: str) -> None:
    traces.looks(text)
    traces.leet(text)
    traces.drawn(text)
    traces.spaced(text)
    traces.repeated(text)


def test_ignorable_characters_are_those_that_unicode_lists() -> None:
    ignorable = importlib.import_module("regex").compile(r"\p{Default_Ignorable_Code_Point}")
    listed = {char for char in map(chr, range(0x110000)) if ignorable.match(char)}
    assert len(listed) > 4_000
    assert {char for char in listed if not characters.is_invisible(char)} == set()
    assert fold("tea" + "".join(sorted(listed)) + "pot") == "teapot"


def test_tables_stay_bounded_over_more_characters_than_they_keep() -> None:
    chars = "".join(chr(code) for code in range(0x80, 0x20000, 3) if not 0xD800 <= code < 0xE000)
    assert len(chars) > characters.MAX_TABLE
    fold(chars)
    assert len(characters.PLAIN) <= characters.MAX_TABLE
    assert fold("z\u043erblax") == "zorblax"
