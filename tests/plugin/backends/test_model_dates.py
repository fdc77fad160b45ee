"""What is said at the start about models that will not stay as they are."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from safelight.backends.model_dates import model_warnings

TABLE: dict[str, Any] = {
    "gemini/one": {"deprecation_date": "2027-05-07"},
    "two": {"deprecation_date": "2026-10-20", "litellm_provider": "vertex_ai-language-models"},
    "gemini/odd": {"deprecation_date": "soon"},
    "gemini/undated": {},
    "gemini/strange": None,
}


def said(model: str, today: str) -> tuple[str, ...]:
    return model_warnings(model, today=date.fromisoformat(today), table=TABLE)


@pytest.mark.parametrize(
    ("today", "told"), [("2027-03-07", 0), ("2027-03-08", 1), ("2027-05-07", 1), ("2028-01-01", 1)]
)
def test_an_end_is_told_of_from_sixty_days_before(today: str, told: int) -> None:
    found = said("gemini/one", today)
    assert len(found) == told
    assert all("gemini/one is retired on 2027-05-07" in warning for warning in found)


def test_vertex_models_are_looked_up_without_their_provider() -> None:
    assert len(said("vertex_ai/two", "2026-11-22")) == 1
    # The other way of asking for it has dates of its own.
    assert said("gemini/two", "2026-11-22") == ()


def test_a_moving_name_is_told_of() -> None:
    (warning,) = said("gemini/gemini-flash-lite-latest", "2026-11-22")
    assert "moves to other models" in warning


@pytest.mark.parametrize(
    ("model", "by"), [("gemini-2.5-flash", "gemini-3.5-flash-lite"), ("gemini-2.5-pro", "gemini-3.8-flash")]
)
def test_a_model_that_others_will_answer_for_is_told_of(model: str, by: str) -> None:
    (warning,) = said(f"gemini/{model}", "2026-11-22")
    assert f"answered by {by} from 2026-12-01" in warning
    assert said(f"gemini/{model}", "2026-09-01") == ()


@pytest.mark.parametrize(
    "model", ["gemini/odd", "gemini/undated", "gemini/strange", "gemini/unknown", "gemini-latest-2"]
)
def test_what_is_not_known_is_not_warned_of(model: str) -> None:
    assert said(model, "2030-01-01") == ()
