"""What is told of a model that cannot be relied on."""

from __future__ import annotations

import logging

import pytest

from clocks import Clock
from safelight.backends.problems import Problems, problem_of


@pytest.mark.parametrize(
    ("reason", "problem"),
    [
        ("http_400", "judge_config"),
        ("http_422", "judge_config"),
        ("http_400_key_invalid", "judge_auth"),
        ("http_401", "judge_auth"),
        ("http_403", "judge_auth"),
        ("http_404_model_retired", "judge_retired"),
        ("http_408", ""),
        ("http_429", ""),
        ("http_503", ""),
        ("connection", ""),
        ("deadline", ""),
        ("", ""),
    ],
)
def test_only_what_a_person_has_to_mend_is_a_problem(reason: str, problem: str) -> None:
    assert problem_of(reason) == problem


def test_a_problem_that_is_not_met_again_is_forgotten_after_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    problems = Problems("some/model", clock=clock)
    problems.met("judge_config", reason="http_400")
    clock.now += 40
    problems.met("judge_auth", reason="http_401")
    seen = [problems.now]
    clock.now += 21
    seen.append(problems.now)
    assert seen == [("judge_auth", "judge_config"), ("judge_auth",)]
    problems.met("judge_config", reason="http_400")
    problems.met("judge_config", reason="http_400")
    told = [record.getMessage().split(":")[0] for record in caplog.records if record.levelno == logging.ERROR]
    assert told == ["judge_config", "judge_auth", "judge_config"]


def test_a_success_clears_them_all() -> None:
    problems = Problems("some/model")
    problems.met("judge_config", reason="http_400")
    problems.met("judge_retired", reason="http_404_model_retired")
    problems.gone()
    assert problems.now == ()
