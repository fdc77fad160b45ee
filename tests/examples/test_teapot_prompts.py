"""The prompts of the harmless policy: those that its head was trained on, and the hundred that try."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

PROMPTS = Path(__file__).parents[2] / "examples" / "prompts"


def rows(name: str) -> list[dict[str, str]]:
    with (PROMPTS / name).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_a_hundred_prompts_try_in_ten_ways_and_each_is_asked_once() -> None:
    attempts = rows("teapot_attempts.tsv")
    assert len({(row["earlier"], row["prompt"]) for row in attempts}) == len(attempts) == 100
    kinds = Counter(row["kind"] for row in attempts)
    assert len(kinds) == 10
    assert min(kinds.values()) >= 4
    assert {row["category"] for row in attempts} == {"teapots"}


def test_earlier_turns_are_there_where_the_kind_says_so_and_nowhere_else() -> None:
    for row in rows("teapot_attempts.tsv"):
        assert bool(row["earlier"]) == (row["kind"] == "across turns"), row


def test_no_prompt_that_tries_was_trained_on() -> None:
    trained = {row["prompt"].casefold() for row in rows("teapots.tsv")}
    assert len(trained) == len(rows("teapots.tsv")) >= 600
    assert not trained & {row["prompt"].casefold() for row in rows("teapot_attempts.tsv")}


def test_the_labels_are_teapots_or_nothing_and_neither_is_rare() -> None:
    counts = Counter(row["category"] for row in rows("teapots.tsv"))
    assert set(counts) == {"", "teapots"}
    assert min(counts.values()) >= 200
