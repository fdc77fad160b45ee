"""What a prompt asks for together with the turns before it: what points back, what is a bit of a text, and letters."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

import pytest

from safelight.normalise import MAX_READ_CHARS
from safelight.request import MAX_PROMPT_CHARS, Turn
from safelight.screens.earlier_turns import MAX_TURNS, REACH, joined, pointed_at, said_earlier, told_together

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
now make the first one blue
make that a bit bigger
same on a table
add a spout to it
put a lid on that
hang it in a kitchen
show me again
now bigger
now red, please
with flowers
I'd like it in red
I want it bigger
I would love to have it in blue
how about a red one
what about blue?
a red one
draw me one in blue
let it be red
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
now darker clouds over a hill
now with more trees, a forest
redraw a cat in ink
a castle from before the war
a Tokyo crossing at night from above
more boats on the sea
same boat race, poster
two cats wearing the same hat
two boats, a red one and a blue one
fill a vase with flowers and put it on a table
place a cat on a sofa with a lamp beside it
put a hat on the cat and a scarf around it
please colour a house blue and a fence around it
take a boat out of the water and paint it red
paint a boat with a man in it
add a tree to that hill
show me that house on a hill
paint these hills
give a cat its ball
a house, the first one on the street
the object on a table is a blue vase
a boy and his dog, again and again
but cats in the snow
in winter
then in the garden, two cats
now red and blue stripes
how about black and white cats
I want red, green and blue balloons
let it snow, a card
how about a cat
I want a red boat
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


LONG = ("4@|_|3 " * 600)[:MAX_PROMPT_CHARS]


@pytest.mark.parametrize("prompt", ["a", "a red", LONG, "a" * MAX_PROMPT_CHARS, "the first one", "t e " * 1000])
@pytest.mark.parametrize(
    "earlier",
    [
        ["a", LONG] * (MAX_TURNS // 2),
        [LONG] * MAX_TURNS,
        ["the same, " + LONG] * MAX_TURNS,
        [f"{number}" + "a" * MAX_PROMPT_CHARS for number in range(MAX_TURNS)],
        [f"4@|_|{number}" for number in range(MAX_TURNS)],
        ["a b c d " * 500] * MAX_TURNS,
    ],
    ids=["long and short", "long", "pointing back", "long words", "bits", "letters"],
)
def test_what_is_read_is_bounded_however_many_and_long_the_turns_are(prompt: str, earlier: list[str]) -> None:
    bits = list(joined(prompt, earlier))
    assert max((max(len(row.whole) - 1, 2 * len(row.before)) for row in bits), default=0) <= 2 * REACH
    texts = [text for row in told_together(prompt, earlier) for text in (row.whole, row.before)]
    # Two of a row, and one of letters; each of them without the prompt too.
    most = MAX_READ_CHARS + MAX_PROMPT_CHARS + 2 * MAX_TURNS + 3 * MAX_TURNS * (3 * REACH + 1)
    assert sum(map(len, texts)) <= most


def test_no_text_is_read_twice() -> None:
    wholes = [row.whole for row in joined("blax", [LONG, "zor"] * 20)]
    assert len(wholes) == len(set(wholes)) >= 2
    assert len(list(joined("a", ["b" * REACH] * MAX_TURNS))) == 2


def test_a_term_in_bits_is_found_at_the_end_of_a_long_turn_and_the_beginning_of_a_long_prompt() -> None:
    assert any("zor blax" in row.whole for row in joined("blax", ["a boat on the sea " * 200 + "zor"]))
    assert any("zorblax on" in row.whole for row in joined("blax on the sea " + "in a boat " * 300, ["zor"]))


def test_a_word_that_is_cut_off_is_not_read() -> None:
    prompt = "on " * (REACH // 3 - 1) + "zorblaxes and boats"
    assert not any("zor" in row.whole for row in joined(prompt, ["a"]))


def test_of_many_long_turns_that_are_pointed_at_the_beginning_of_each_is_read() -> None:
    earlier = [f"zorblax{number} {LONG}"[:MAX_PROMPT_CHARS] for number in range(MAX_TURNS)]
    (meant, *_) = told_together("the first one, in red", earlier)
    assert all(f"zorblax{number} " in meant.whole for number in range(MAX_TURNS))
    (meant, *_) = told_together("make it red", earlier)
    assert meant.whole == f"{earlier[-1]}, make it red"
