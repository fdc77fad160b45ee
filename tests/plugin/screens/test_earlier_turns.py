"""What a prompt asks for together with the turns before it: what points back, what is a bit of a text, and letters."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

import pytest

from safelight.request import Turn
from safelight.screens.earlier_turns import joined, pointed_at, said_earlier

PROMPTS = Path(__file__).parents[3] / "examples" / "prompts"

POINTING = """
the same, but red
the same again
same thing on a table
that one, bigger
another one
make it red
now put a hat on it
can you draw it again
please give them wings
but at night
in blue
now in blue
and with a lid
the thing from before, but smaller
what I asked for before
the first one, please
once more
redo that in green
""".strip().splitlines()

STANDING_ALONE = """
a red boat
now a blue boat
ok, then a cat at night
draw a house with a tree behind it
a cat on a table, and a hat on it
make one rabbit on a plain background
two boats racing at the same time
then show me a tree in the snow
""".strip().splitlines()


def turn(**texts: str) -> Turn:
    return Turn(texts, datetime.now(UTC), None)


@pytest.mark.parametrize("prompt", POINTING)
def test_a_prompt_that_points_back_is_read_with_what_it_points_at(prompt: str) -> None:
    meant = pointed_at(prompt, ["a zorblax"])
    assert meant is not None
    assert "a zorblax" in meant
    assert prompt in meant


@pytest.mark.parametrize("prompt", STANDING_ALONE)
def test_a_prompt_that_stands_for_itself_is_read_alone(prompt: str) -> None:
    assert pointed_at(prompt, ["a zorblax"]) is None


def test_hardly_any_of_the_harmless_prompts_points_back() -> None:
    with (PROMPTS / "benign.tsv").open(encoding="utf-8", newline="") as lines:
        prompts = [row["prompt"] for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)]
    # Measured: none of 723.
    assert sum(pointed_at(prompt, ["a zorblax"]) is not None for prompt in prompts) <= 2


def test_what_is_pointed_at_is_the_newest_turn_that_does_not_itself_point_back() -> None:
    assert pointed_at("but red", ["a zorblax", "a boat"]) == "a boat, but red"
    assert pointed_at("but red", ["a zorblax", "make it bigger"]) == "a zorblax, make it bigger, but red"


def test_who_points_far_back_may_mean_any_turn() -> None:
    assert pointed_at("the first one, in blue", ["a zorblax", "a boat"]) == "a zorblax, a boat, the first one, in blue"


def test_without_a_turn_before_it_a_prompt_stands_for_itself() -> None:
    assert pointed_at("the same, but red", []) is None
    assert list(joined("blax", [])) == []


def test_bits_are_joined_with_and_without_a_gap() -> None:
    wholes = {row.whole for row in joined("blax", ["zor"])}
    assert wholes == {"zor blax", "zorblax"}
    assert {row.before for row in joined("blax", ["zor"])} == {"zor"}


def test_whole_prompts_are_not_joined() -> None:
    assert list(joined("a pot of flowers on grass", ["a cup of tea"])) == []


def test_joining_goes_back_as_far_as_one_of_two_neighbours_is_a_bit() -> None:
    wholes = [row.whole for row in joined("x", ["a boat on the sea", "a cup of zor", "bla"])]
    assert "zorblax" in wholes[-1]
    assert not any("boat" in whole for whole in wholes)


def test_letters_that_are_told_turn_by_turn_are_read_as_a_word() -> None:
    told = ["the first letter is z", "then o", "a letter r", "now b", "l", "and then a"]
    assert "zorblax" in [row.whole for row in joined("an x at the end", told)]


def test_two_single_letters_are_no_word() -> None:
    assert "zo" not in [row.whole for row in joined("then draw an o for me", ["begin with the letter z"])]


def test_the_newest_turns_count_and_what_a_picture_was_to_avoid_does_not() -> None:
    history = [turn(prompt="one"), turn(prompt="two", negative_prompt="no"), turn(), turn(prompt="three", prompt_2="3")]
    assert said_earlier(history, 3) == ["two", "three 3"]
    assert said_earlier(history, 0) == []
