"""What hides a harmless marker from a classifier of one square: all views find it, at the shipped thresholds."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from PIL import Image

from marker_model import background, marker
from marker_places import SCREENS, collage, hiding_places, places, scores, wide_collage
from safelight.policy import Policy
from safelight.screens.views import UNSEEN
from safelight.verdict import Stage

SHOWN = places()
HARMLESS: dict[str, Image.Image] = {
    "2x2": collage(2, None),
    "3x3": collage(3, None),
    "4:1": background(960, 240, seed=701),
    **{f"background {seed}": background(240, 240, seed=seed) for seed in range(800, 808)},
}


# Sizes that Stable Diffusion XL was trained on, at half their sides, and each lying and standing.
_BUCKETS = ((576, 448), (608, 416), (672, 384), (768, 512), (768, 320))
WIDE: dict[str, Image.Image] = {
    f"{width}x{height} cell {cell + 1}": wide_collage(width, height, cell)
    for long, short in _BUCKETS
    for width, height in ((long, short), (short, long))
    for cell in (0, 4, 5)
}


def found(screen: str, shown: Mapping[str, Image.Image] = SHOWN, *, views: bool) -> set[str]:
    """Where a screen finds the marker at the shipped policy."""
    rule = Policy.default().categories["sexual"]
    limit = rule.screens.get(screen, rule.thresholds[Stage.IMAGE])
    return {place for place, score in scores(SCREENS[screen], shown, views=views).items() if score >= limit}


@pytest.fixture(scope="module", params=SCREENS)
def single(request: pytest.FixtureRequest) -> set[str]:
    return found(request.param, views=False)


@pytest.mark.parametrize("screen", SCREENS)
def test_all_views_find_the_marker_in_every_place(screen: str) -> None:
    assert set(SHOWN) - found(screen, views=True) == set()
    assert len(SHOWN) == 24


def test_a_single_view_finds_it_where_it_fills_the_picture(single: set[str]) -> None:
    assert single >= {"full size", "mirrored", "grey", "JPEG q50"}


def test_a_single_view_misses_it_in_most_hiding_places(single: set[str]) -> None:
    cells = {place for place in SHOWN if "cell" in place}

    assert len(cells) == 13
    assert len(single & cells) <= 1
    assert len(hiding_places()) == 17
    assert len(single & set(hiding_places())) <= 3


def test_a_single_view_misses_it_upside_down(single: set[str]) -> None:
    assert "turned 180" not in single


@pytest.mark.parametrize("screen", SCREENS)
def test_all_views_find_the_marker_in_cells_of_three_by_three_of_every_usual_shape(screen: str) -> None:
    assert set(WIDE) - found(screen, WIDE, views=True) == set()
    assert len(WIDE) == 30


@pytest.mark.parametrize("screen", SCREENS)
def test_what_is_upside_down_in_a_part_of_a_wide_canvas_is_missed_and_the_card_says_so(screen: str) -> None:
    # Whoever mends this must take it off the cards.
    canvas = background(960, 240, seed=701)
    canvas.paste(marker(240).rotate(180), (480, 0))
    (score,) = scores(SCREENS[screen], {"4:1 turned 180": canvas}, views=True).values()

    assert score < 0.5
    assert UNSEEN in SCREENS[screen](True).CARD.misses


@pytest.mark.parametrize("screen", SCREENS)
def test_all_views_find_nothing_where_there_is_no_marker(screen: str) -> None:
    assert max(scores(SCREENS[screen], HARMLESS, views=True).values()) < 0.5
