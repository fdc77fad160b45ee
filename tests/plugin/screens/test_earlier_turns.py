"""What a prompt asks for together with the turns before it: what points back, what is a bit of a text, and letters."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fakes import ALICE
from safelight.normalise import MAX_READ_CHARS
from safelight.policy import Action
from safelight.request import MAX_PROMPT_CHARS, GenerationRequest, Turn
from safelight.screens.earlier_turns import (
    MAX_AGE,
    MAX_TURNS,
    REACH,
    asked_now,
    joined,
    pointed_at,
    said_earlier,
    told_together,
)

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
"make it blue"
(make it blue)
- make it blue
1. make it blue
🙂 make it blue
another
draw another
bigger
bigger please
in dark blue
a blue one
yes, make it red
no, make it red
just make it red
let's make it red
well, make it red
i want it in red
another, please
a dark blue one
but red
the same, but a bit bigger
the same, a bigger one
now a bit bigger
now with a lid and a spout
now on a table in a garden
now in the snow with a hat
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
now flower in the snow
now flower, red
then river at night
and tiger in the snow
next spider, black
please draw this for me: a boat on the sea
place a cup on a table and put a flower in it
put a hat on a cat and colour it red
use this style: watercolour, a boat
the same in green, but a boat
a kitten, the one with a hat
a boat, then a house from before the war
a house, again in the snow
now in the snow a cat
then in the sky a balloon
now on the sea a boat
and on grass a rabbit
now as a painting: a boat
more cats
draw these three cats
show me that old house on the hill
but boat
the one ring
take one, two, three balloons
well in a desert
just a boat
no smoking sign
3 boats
another boat
draw another boat
bigger boat
now in the deep snow a cat
let's draw a boat
but kitten
the same style, but a cat
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


@pytest.mark.parametrize(
    ("earlier", "prompt"),
    [
        ("a cup of tea", "a pot of flowers on grass"),
        ("我想要一杯茶", "壶里有花的红色的猫"),
        ("お茶を一杯ください", "ポットに花がある"),
        ("ขอชาหนึ่งถ้วย", "กาบนต้นไม้สีแดง"),
    ],
)
def test_whole_prompts_are_not_joined(earlier: str, prompt: str) -> None:
    assert list(joined(prompt, [earlier])) == []


@pytest.mark.parametrize(
    ("earlier", "prompt"), [("茶", "壶"), ("ティー", "ポット"), ("我想要一杯茶", "壶"), ("กา", "น้ำชา")]
)
def test_bits_in_a_writing_without_spaces_are_joined(earlier: str, prompt: str) -> None:
    assert earlier + prompt in [row.whole for row in joined(prompt, [earlier])]


def test_a_long_text_without_a_word_is_no_bit() -> None:
    assert list(joined("a boat on the sea", ["🙂" * MAX_PROMPT_CHARS])) == []
    assert list(joined("a boat on the sea", ["🙂"])) != []


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


def test_a_turn_that_was_overturned_on_appeal_is_left_out() -> None:
    now = datetime.now(UTC)
    appealed = Turn({"prompt": "a zorblax"}, now, Action.BLOCK, overturned=True)
    assert said_earlier([turn(prompt="a boat"), appealed], 1) == ["a boat"]


def test_a_turn_of_another_day_is_left_out() -> None:
    now = datetime.now(UTC)
    history = [Turn({"prompt": str(age)}, now - age, Action.BLOCK) for age in (MAX_AGE + timedelta(seconds=1), MAX_AGE)]
    assert said_earlier(history, 8, now=now) == [str(MAX_AGE)]


def ruled(*turns: tuple[str, Action | None]) -> list[Turn]:
    return [Turn({"prompt": text}, datetime.now(UTC), action) for text, action in turns]


@pytest.mark.parametrize("prompt", ["put them both on a table", "now draw them together"])
def test_with_two_newer_things_to_put_together_a_refused_one_is_not_meant(prompt: str) -> None:
    history = ruled(("a zorblax", Action.BLOCK), ("a cat", Action.ALLOW), ("a dog", Action.FLAG))
    assert said_earlier(history, 8, prompts=[prompt]) == ["a cat", "a dog"]
    assert said_earlier(history, 8, prompts=["make it red"]) == ["a zorblax", "a cat", "a dog"]
    assert said_earlier(history, 8, prompts=["the first one together with it"]) == ["a zorblax", "a cat", "a dog"]


@pytest.mark.parametrize("newest", [("a dog", None), ("a dog", Action.BLOCK), ("a dog", Action.REVIEW)])
def test_a_refused_thing_is_meant_where_fewer_than_two_newer_ones_stand(newest: tuple[str, Action | None]) -> None:
    history = ruled(("a zorblax", Action.BLOCK), ("a cat", Action.ALLOW), newest)
    assert "a zorblax" in said_earlier(history, 8, prompts=["put them both on a table"])
    assert "a zorblax" in said_earlier(history[:2], 8, prompts=["put them both on a table"])


def test_every_prompt_of_a_request_asks_and_what_a_picture_is_to_avoid_does_not() -> None:
    request = GenerationRequest(
        "one", ALICE, prompt_2="two", negative_prompt="no", extra_texts={"prompt_3": "two", "negative_prompt_3": "no"}
    )
    assert asked_now(request) == ["one", "two"]


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
