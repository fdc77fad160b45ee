"""Which names a model may answer under."""

from __future__ import annotations

import pytest

from safelight.backends.served_models import ServedModels


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ("openai/gpt-5-nano", "gpt-5-nano"),
        ("openai/gpt-5-nano", "gpt-5-nano-2025-08-07"),
        ("anthropic/claude-haiku-4-5", "claude-haiku-4-5-20251001"),
        ("openrouter/openai/gpt-5-nano", "openai/gpt-5-nano-2025-08-07"),
        ("gpt-5-nano", "gpt-5-nano-2025-08-07"),
        ("openai/gpt-5-nano-2025-08-07", "gpt-5-nano-2025-08-07"),
        ("openai/gpt-5-nano", "tuned"),
    ],
)
def test_a_model_answers_under_its_own_name_a_dated_one_or_an_allowed_one(asked: str, served: str) -> None:
    assert ServedModels(asked, ["tuned"]).allows(served)


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ("openai/gpt-5-nano", ""),
        ("openai/gpt-5-nano", "gpt-5-mini-2025-08-07"),
        ("openai/gpt-5", "gpt-5-nano-2025-08-07"),
        ("openai/gpt-5-nano", "gpt-5-nano-2025-13-07"),
        ("openai/gpt-5-nano", "gpt-5-nano-2025-0807"),
        ("openai/gpt-5-nano", "gpt-5-nano-2025-08-07-x"),
        ("openai/gpt-5-nano", "gpt-5-nano-2025-08-07\n"),
        ("openai/gpt-5-nano", "x-gpt-5-nano-2025-08-07"),
        ("openai/gpt-5-nano", "gpt-5-nano2025-08-07"),
        ("openai/gpt-5-nano", "gpt-5-nano-\u0662\u0660\u0662\u0665-08-07"),
        ("openai/gpt-5-nano-2025-08-07", "gpt-5-nano"),
        ("openai/gpt-5-nano-2025-08-07", "gpt-5-nano-2026-01-01"),
        ("openai/gpt-5-nano-2025-08-07", "gpt-5-nano-2025-08-07-2026-01-01"),
        ("gemini/gemini-2.5-flash", "gemini-2.5-flash-001"),
        ("gemini/gemini-2.5-flash", "gemini-2.5-flash-preview-09-2025"),
        ("openai/gpt-5-nano", "tuned-2025-08-07"),
    ],
)
def test_any_other_name_is_another_model(asked: str, served: str) -> None:
    assert not ServedModels(asked, ["tuned"]).allows(served)
