from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight_ui.visitors import Visitors

KEY = bytes(range(32))


def test_a_cookie_names_the_visitor_that_it_was_made_for() -> None:
    visitor = Visitors.fresh()
    assert Visitors(KEY).read(Visitors(KEY).cookie(visitor)) == visitor


def test_no_two_visitors_are_the_same() -> None:
    assert len({Visitors.fresh() for _ in range(100)}) == 100


def test_a_cookie_of_another_store_names_nobody() -> None:
    assert Visitors(KEY).read(Visitors(KEY[::-1]).cookie(Visitors.fresh())) is None


@given(st.integers(0, 64), st.characters(codec="utf-8"))
def test_a_cookie_with_one_character_changed_names_nobody(place: int, char: str) -> None:
    cookie = Visitors(KEY).cookie("0123456789abcdef" * 2)
    forged = cookie[:place] + char + cookie[place + 1 :]
    assert Visitors(KEY).read(forged) == (None if forged != cookie else "0123456789abcdef" * 2)


@given(st.text())
def test_any_other_text_names_nobody(text: str) -> None:
    assert Visitors(KEY).read(text) is None


def test_no_cookie_names_nobody() -> None:
    assert Visitors(KEY).read(None) is None


def test_a_signature_for_one_purpose_is_none_for_another() -> None:
    visitors = Visitors(KEY)
    assert not visitors.matches(visitors.sign("cookie", "ab"), "picture", "ab")
    assert not visitors.matches(visitors.sign("ab", "c"), "a", "bc")


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Visitors(b"short")
