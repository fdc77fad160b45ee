from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.rules import Consequence, EnforcementRule, Limit
from safelight.standing import MAX_SKEW, Level, Standing, standing_of
from safelight.store.strikes import Attempt, AttemptKind, Hold

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
DECAY = timedelta(days=30)
DEFAULT = EnforcementRule().limits
SHORT = Limit(3, 10 * MINUTE, Consequence.COOL_DOWN, 10 * MINUTE)


def attempts(*ages: timedelta, kind: AttemptKind = AttemptKind.BLOCKED) -> list[Attempt]:
    """One attempt an age; a negative age lies in the future."""
    return [Attempt("t", "p", kind, f"dec_{place}", f"r{place}", NOW - age) for place, age in enumerate(ages)]


def standing(
    made: Sequence[Attempt], limits: Sequence[Limit] = DEFAULT, now: datetime = NOW, hold: Hold | None = None
) -> Standing:
    return standing_of(made, limits, now=now, decay=DECAY, hold=hold)


def test_nobody_without_attempts_is_warned_or_stopped() -> None:
    assert standing([]) == Standing(Level.CLEAR, None, 0, 3, "")


def test_without_limits_nothing_is_left_to_count_down() -> None:
    assert standing(attempts(MINUTE, MINUTE, MINUTE, MINUTE), ()) == Standing(Level.CLEAR, None, 4, None, "dec_3")


def test_the_first_attempt_is_warned_of_the_two_that_are_left() -> None:
    assert standing(attempts(MINUTE)) == Standing(Level.WARNED, None, 1, 2, "dec_0")


def test_an_attempt_that_no_window_reaches_any_more_warns_of_nothing() -> None:
    assert standing(attempts(8 * DAY)).level is Level.CLEAR


def test_the_third_attempt_in_ten_minutes_cools_down_for_ten_from_that_attempt() -> None:
    made = attempts(9 * MINUTE, 5 * MINUTE, 2 * MINUTE)
    assert standing(made) == Standing(Level.COOL_DOWN, NOW + 8 * MINUTE, 3, 0, "dec_2")
    assert standing(made, now=NOW + 8 * MINUTE - timedelta(microseconds=1)).level is Level.COOL_DOWN
    assert standing(made, now=NOW + 8 * MINUTE).level is not Level.COOL_DOWN


def test_three_attempts_in_more_than_ten_minutes_do_not() -> None:
    assert standing(attempts(10 * MINUTE, 5 * MINUTE, timedelta())).level is Level.WARNED


def test_the_longest_of_all_cool_downs_counts() -> None:
    made = attempts(5 * MINUTE, 4 * MINUTE, 3 * MINUTE, 2 * MINUTE, MINUTE)
    assert standing(made) == Standing(Level.COOL_DOWN, NOW + DAY - MINUTE, 5, 0, "dec_4")


def test_ten_attempts_in_a_week_are_held_whatever_else_lasts() -> None:
    made = attempts(*[hours * HOUR for hours in range(100, 0, -10)])
    assert standing(made) == Standing(Level.HELD, None, 10, 0, "dec_9")
    assert standing(made[:9]).level is not Level.HELD


def test_a_hold_in_the_store_counts_whatever_the_attempts_are() -> None:
    assert standing([], (), hold=Hold("t", "p", NOW - DAY, "dec_x")) == Standing(Level.HELD, None, 0, 0, "dec_x")


def test_a_cool_down_reached_before_the_newest_attempt_lasts_on() -> None:
    # A request that was under way is blocked late, and its window holds fewer.
    made = attempts(20 * MINUTE, 19 * MINUTE, 18 * MINUTE, timedelta())
    assert standing(made, [Limit(3, 5 * MINUTE, Consequence.COOL_DOWN, HOUR)]).until == NOW + 42 * MINUTE


def test_an_attempt_above_a_limit_starts_its_cool_down_again() -> None:
    limit = Limit(3, DAY, Consequence.COOL_DOWN, MINUTE)
    over = attempts(4 * HOUR, 3 * HOUR, 2 * HOUR)
    assert (standing(over, [limit]).level, standing(over, [limit]).left) == (Level.WARNED, 1)
    assert standing([*over, *attempts(timedelta())], [limit]).until == NOW + MINUTE


def test_attempts_decay() -> None:
    old = attempts(*[30 * DAY + MINUTE] * 10)
    assert standing(old) == Standing(Level.CLEAR, None, 0, 3, "")
    young = attempts(*[29 * DAY] * 10)
    assert standing(young).level is Level.HELD


def test_the_decision_to_appeal_is_a_block_and_not_the_allow_of_a_variant() -> None:
    made = [*attempts(3 * MINUTE, 2 * MINUTE)]
    made.append(Attempt("t", "p", AttemptKind.NEAR_DUPLICATE, "dec_allowed", "r9", NOW))
    assert standing(made).level is Level.COOL_DOWN
    assert standing(made).decision_id == "dec_1"


@pytest.mark.parametrize("jump", [MINUTE, HOUR, 14 * HOUR])
def test_a_clock_set_back_neither_skips_a_cool_down_nor_makes_it_eternal(jump: timedelta) -> None:
    made = attempts(2 * MINUTE, MINUTE, timedelta())
    back = NOW - jump
    assert standing(made, [SHORT], now=back).level is Level.COOL_DOWN
    assert standing(made, [SHORT], now=back).until == back + 10 * MINUTE
    # Once the clock has come to where it was, the usual length is left.
    assert standing(made, [SHORT], now=NOW + 9 * MINUTE).level is Level.COOL_DOWN
    assert standing(made, [SHORT], now=NOW + 10 * MINUTE).level is not Level.COOL_DOWN


def test_attempts_on_both_sides_of_a_jump_back_count_together() -> None:
    made = attempts(-HOUR, -HOUR + MINUTE, timedelta())
    assert standing(made, [SHORT]).until == NOW + 10 * MINUTE


def test_a_clock_that_was_years_ahead_locks_nobody_out() -> None:
    assert standing(attempts(*[-3650 * DAY] * 10)).level is Level.CLEAR
    assert standing(attempts(*[-MAX_SKEW] * 3)).level is Level.COOL_DOWN


AGES = st.lists(st.integers(-2_000, 60_000).map(lambda minutes: minutes * MINUTE), max_size=14)
COOL_DOWNS = st.builds(
    Limit,
    st.integers(1, 6),
    st.integers(1, 20_000).map(lambda minutes: minutes * MINUTE),
    st.just(Consequence.COOL_DOWN),
    st.integers(1, 20_000).map(lambda minutes: minutes * MINUTE),
)
LIMITS = st.lists(st.one_of(COOL_DOWNS, st.just(DEFAULT[-1])), max_size=4)


@given(AGES, LIMITS)
def test_more_attempts_or_limits_never_make_a_standing_better(ages: list[timedelta], limits: list[Limit]) -> None:
    made = attempts(*ages)
    found = standing(made, limits)
    for fewer in (standing(made[:-1], limits), standing(made, limits[:-1])):
        assert fewer.level.severity <= found.level.severity
        if fewer.level is found.level is Level.COOL_DOWN:
            assert fewer.until is not None and found.until is not None and fewer.until <= found.until


@given(AGES, LIMITS, st.randoms())
def test_a_standing_is_whole_and_does_not_depend_on_the_order(
    ages: list[timedelta], limits: list[Limit], chance: Random
) -> None:
    made = attempts(*ages)
    found = standing(made, limits)
    shuffled = list(made)
    chance.shuffle(shuffled)
    other = standing(shuffled, limits)
    assert (other.level, other.until, other.left, other.attempts) == (
        found.level,
        found.until,
        found.left,
        found.attempts,
    )
    assert (found.until is not None) == (found.level is Level.COOL_DOWN)
    longest = max((limit.lasts for limit in limits if limit.lasts), default=timedelta())
    assert found.until is None or NOW < found.until <= NOW + longest
    if found.level.stops:
        assert found.left == 0 and found.decision_id
    else:
        assert found.left is None if not limits else found.left is not None and found.left >= 1


@given(COOL_DOWNS, st.integers(0, 10))
def test_left_more_attempts_at_once_bring_on_the_consequence_and_no_fewer(limit: Limit, before: int) -> None:
    made = attempts(*[limit.within / 2] * min(before, limit.attempts - 1))
    left = standing(made, [limit]).left
    assert left is not None
    for more in range(left + 1):
        level = standing([*made, *attempts(*[timedelta()] * more)], [limit]).level
        assert (level is Level.COOL_DOWN) == (more == left)
