from __future__ import annotations

from datetime import UTC, datetime
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import POLICY, sentinel_policy
from safelight.errors import ConfigError
from safelight.policy import Action, Decision, Policy, Reason
from safelight.verdict import Category, Outcome, Stage, Verdict


def decide(*verdicts: Verdict, policy: Policy | None = None, expected: Any = ("a",)) -> Decision:
    return (policy or sentinel_policy()).decide(
        verdicts, id="dec_1", request_id="req_1", stage=Stage.PROMPT, created=datetime.now(UTC), expected=expected
    )


def found(score: float, category: str = "sentinel", screen: str = "a") -> Verdict:
    return Verdict(screen, Stage.PROMPT, {category: score})


def failed(outcome: Outcome, screen: str = "a") -> Verdict:
    return Verdict(screen, Stage.PROMPT, outcome=outcome)


def test_a_score_at_its_threshold_blocks_and_one_below_passes() -> None:
    assert decide(found(0.5)).action is Action.BLOCK
    assert decide(found(0.5)).categories == ("sentinel",)
    assert decide(found(0.499)).action is Action.ALLOW


def test_a_category_that_flags_lets_the_request_pass_and_says_so() -> None:
    decision = decide(found(0.9, "teapots"))
    assert (decision.action, decision.reason, decision.categories) == (Action.FLAG, Reason.CATEGORY, ("teapots",))


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.OK])
def test_no_failed_outcome_ever_allows(outcome: Outcome) -> None:
    assert not decide(failed(outcome)).allows


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (Outcome.REFUSED, Reason.PROVIDER_REFUSED),
        (Outcome.RESTRICTED, Reason.RESTRICTED),
        (Outcome.TIMEOUT, Reason.SCREENING_UNAVAILABLE),
        (Outcome.FAILED, Reason.SCREENING_UNAVAILABLE),
        (Outcome.OVER_BUDGET, Reason.SCREENING_UNAVAILABLE),
    ],
)
def test_a_refusal_is_a_finding_and_a_failure_is_a_fault_of_ours(outcome: Outcome, reason: Reason) -> None:
    assert decide(failed(outcome)).reason is reason
    assert decide(failed(outcome)).is_fault is (reason is Reason.SCREENING_UNAVAILABLE)


def test_the_most_severe_verdict_wins_in_every_order() -> None:
    verdicts = [found(0.0), found(0.9, screen="b"), failed(Outcome.TIMEOUT, "c"), failed(Outcome.REFUSED, "d")]
    rulings = {(d.action, d.reason) for d in (decide(*order, expected="abcd") for order in permutations(verdicts))}
    assert rulings == {(Action.BLOCK, Reason.CATEGORY)}


def test_a_screen_that_is_configured_and_silent_is_a_failure() -> None:
    assert decide(found(0.0), expected=("a", "b")).reason is Reason.SCREENING_UNAVAILABLE
    assert decide(expected=()).reason is Reason.SCREENING_UNAVAILABLE


def test_a_verdict_about_the_other_stage_is_a_failure() -> None:
    assert decide(Verdict("a", Stage.IMAGE, {"sentinel": 0.0})).reason is Reason.SCREENING_UNAVAILABLE


def test_a_failed_verdict_with_a_high_score_blocks_as_a_finding() -> None:
    verdict = Verdict("a", Stage.PROMPT, {"sentinel": 0.9}, outcome=Outcome.TIMEOUT)
    assert decide(verdict).reason is Reason.CATEGORY


def test_a_threshold_of_a_single_screen_wins_over_the_stages() -> None:
    policy = Policy.parse(POLICY.replace('[categories."teapots"]', 'screens = { a = 0.8 }\n[categories."teapots"]'))
    assert decide(found(0.7), policy=policy).allows
    assert not decide(found(0.7, screen="b"), policy=policy, expected=("b",)).allows


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(list(Outcome)), st.floats(0, 1))))
def test_whatever_passes_has_an_ok_verdict_below_threshold_from_every_screen(items: list[Any]) -> None:
    verdicts = [Verdict(s, Stage.PROMPT, {"sentinel": score}, outcome=outcome) for s, outcome, score in items]
    decision = decide(*verdicts, expected=("a", "b"))
    if decision.allows:
        assert {"a", "b"} <= {v.screen for v in verdicts}
        assert all(v.outcome is Outcome.OK and v.scores["sentinel"] < 0.5 for v in verdicts)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -0.1, 1.1, True, "0.5", None])
def test_a_score_that_is_no_number_in_range_is_no_verdict(score: Any) -> None:
    with pytest.raises(ValueError, match="score of sentinel"):
        Verdict("a", Stage.PROMPT, {"sentinel": score})


def test_an_ok_verdict_without_scores_is_no_verdict() -> None:
    with pytest.raises(ValueError, match="at least one score"):
        Verdict("a", Stage.PROMPT)


def test_the_shipped_policy_has_every_category_of_ours_with_a_description_for_judges() -> None:
    policy = Policy.default()
    assert set(policy.categories) == {str(category) for category in Category}
    assert all(len(rule.description) > 100 and rule.advice and rule.title for rule in policy.categories.values())
    assert {rule.action for rule in policy.categories.values()} == {Action.BLOCK}
    assert all(set(rule.thresholds) == set(Stage) for rule in policy.categories.values())


def test_the_hash_follows_the_meaning_and_not_the_text() -> None:
    assert Policy.parse(POLICY + "\n# a remark").hash == sentinel_policy().hash
    assert Policy.parse(POLICY.replace("prompt = 0.5", "prompt = 0.6")).hash != sentinel_policy().hash


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("version = 1", "version = 2", "version"),
        ("version = 1", "version = 1\ntreshold = 3", "treshold"),
        ("prompt = 0.5", "prompt = 0", "thresholds.prompt"),
        ("prompt = 0.5", "prompt = nan", "thresholds.prompt"),
        ("prompt = 0.5", "promt = 0.5", "thresholds.prompt"),
        ('action = "flag"', 'action = "allow"', "action"),
        ('action = "flag"', 'action = "drop"', "action"),
        ('title = "Teapots"', "title = 3", "title"),
        ('title = "Teapots"', "", "title"),
        ("version = 1", 'version = 1\noutcomes = { timeout = "allow" }', "outcomes.timeout"),
        ("version = 1", 'version = 1\noutcomes = { restricted = "unavailable" }', "outcomes.restricted"),
        ("version = 1", "version = [", "TOML"),
    ],
)
def test_a_wrong_key_is_named(old: str, new: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named.replace(".", r"\.")):
        Policy.parse(POLICY.replace(old, new, 1))


def test_a_typo_is_answered_with_the_key_that_was_meant() -> None:
    with pytest.raises(ConfigError, match=r"screesn: unknown key; did you mean 'screens'\?"):
        Policy.parse(POLICY + "screesn = {}")


def test_the_gravest_category_cannot_be_set_below_block() -> None:
    text = POLICY.replace('"teapots"', '"sexual/minors"')
    with pytest.raises(ConfigError, match="cannot be set below"):
        Policy.parse(text)


def test_the_gravest_category_is_a_restricted_block() -> None:
    decision = decide(found(0.4, "sexual/minors"), policy=Policy.default())
    assert (decision.action, decision.reason) == (Action.BLOCK, Reason.RESTRICTED)


def test_a_decision_explains_itself_in_plain_json_types() -> None:
    decision = decide(found(0.9))
    data = decision.as_dict()
    assert data["verdicts"][0]["scores"] == {"sentinel": 0.9}
    assert (data["stage"], data["action"], data["reason"]) == ("prompt", "block", "category")
    assert data["policy"].startswith("sha256:")


@pytest.mark.parametrize("changes", [{"outcome": "bogus"}, {"reason": b"x"}, {"ms": "x"}, {"ms": float("nan")}])
def test_a_verdict_of_the_wrong_types_is_no_verdict(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"bogus|must be texts|no number"):
        Verdict("a", Stage.PROMPT, {"sentinel": 0.0}, **changes)


def test_an_outcome_given_as_a_plain_text_is_what_it_says() -> None:
    verdict = Verdict("a", Stage.PROMPT, {"sentinel": 0.0}, outcome="timeout")  # type: ignore[arg-type]
    assert decide(verdict).reason is Reason.SCREENING_UNAVAILABLE


CASCADE = POLICY.replace("[categories", '[cascade]\nskip = ["judge"]\nsure_below = 0.1\n[categories', 1)


def course(score: float, *, now: float = 0.0) -> Verdict:
    return Verdict("a", Stage.PROMPT, {"sentinel": now}, course={"sentinel": score})


def test_a_course_at_its_threshold_flags_an_innocent_request_and_never_blocks_it() -> None:
    decision = decide(course(1.0))
    assert (decision.action, decision.reason, decision.course) == (Action.FLAG, Reason.COURSE, ("sentinel",))
    assert decision.categories == ()


def test_a_course_below_its_threshold_is_no_remark() -> None:
    decision = decide(course(0.59))
    assert (decision.action, decision.course) == (Action.ALLOW, ())


def test_a_blocked_request_keeps_its_reason_and_names_the_course_too() -> None:
    decision = decide(course(0.9, now=0.9))
    assert (decision.action, decision.reason, decision.course) == (Action.BLOCK, Reason.CATEGORY, ("sentinel",))


def test_a_policy_may_leave_courses_unflagged() -> None:
    policy = Policy.parse(POLICY.replace("[categories", "[course]\nflag = false\n[categories", 1))
    assert decide(course(1.0), policy=policy).action is Action.ALLOW


def skipped(screen: str = "judge") -> Verdict:
    return Verdict(screen, Stage.PROMPT, outcome=Outcome.SKIPPED)


def test_a_skipped_screen_is_a_failure_unless_the_policy_lets_it_be_skipped() -> None:
    assert decide(found(0.0), skipped(), expected=("a", "judge")).is_fault
    policy = Policy.parse(CASCADE)
    assert decide(found(0.0), skipped(), policy=policy, expected=("a", "judge")).allows
    assert decide(found(0.0), skipped("b"), policy=policy, expected=("a", "b")).is_fault


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([skipped()], ("judge",)),
        ([found(0.1), skipped()], ("a", "judge")),
        ([Verdict("a", Stage.PROMPT, {"sentinel": 0.0}, reason="not_english"), skipped()], ("a", "judge")),
        ([failed(Outcome.TIMEOUT), skipped()], ("a", "judge")),
        ([found(0.0), skipped()], ("a", "b", "judge")),
    ],
    ids=["nobody read it", "not sure", "has a remark", "the sure one failed", "one has not spoken"],
)
def test_a_cascade_needs_sure_evidence_of_all_others(verdicts: list[Verdict], expected: tuple[str, ...]) -> None:
    assert decide(*verdicts, policy=Policy.parse(CASCADE), expected=expected).is_fault


def test_no_picture_is_ever_skipped() -> None:
    policy = Policy.parse(CASCADE)
    verdicts = [Verdict("a", Stage.IMAGE, {"sentinel": 0.0}), Verdict("judge", Stage.IMAGE, outcome=Outcome.SKIPPED)]
    decision = policy.decide(
        verdicts, id="d", request_id="r", stage=Stage.IMAGE, created=datetime.now(UTC), expected=("a", "judge")
    )
    assert decision.is_fault


def test_a_skipped_screen_is_not_on_the_receipt() -> None:
    decision = decide(found(0.0), skipped(), policy=Policy.parse(CASCADE), expected=("a", "judge"))
    assert decision.screens == ("a",)


def with_guidance(section: str) -> Policy:
    return Policy.parse(POLICY.replace("[categories", f"[guidance]\n{section}\n[categories", 1))


def test_concepts_to_steer_away_from_are_read_as_one_text_in_their_order() -> None:
    policy = with_guidance('concepts = ["teapots", "open  umbrellas "]')
    assert policy.guidance.concepts == ("teapots", "open umbrellas")
    assert policy.guidance.text == "teapots, open umbrellas"


def test_a_policy_without_concepts_steers_away_from_what_it_blocks_by_title() -> None:
    for policy in (sentinel_policy(), with_guidance("")):
        assert policy.guidance.concepts == ("The sentinel word",)


def test_nothing_is_steered_away_from_the_title_of_the_gravest_category() -> None:
    # It says what is protected.
    policy = Policy.parse(POLICY.replace('"sentinel"]', '"sexual/minors"]'))
    assert policy.guidance.concepts == ()


def test_concepts_may_be_none_at_all() -> None:
    assert with_guidance("concepts = []").guidance.text == ""


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ("concepts = [3]", "concepts"),
        ('concepts = [" "]', "concepts"),
        ('concepts = "teapots"', "concepts"),
        ("concept = []", "concept: unknown key; did you mean 'concepts'"),
    ],
)
def test_concepts_that_are_no_words_are_refused(section: str, named: str) -> None:
    with pytest.raises(ConfigError, match=rf"guidance\.{named}"):
        with_guidance(section)


def test_the_shipped_policys_concepts_fit_into_a_clip_text_encoder() -> None:
    text = Policy.default().guidance.text
    # CLIP reads 75 tokens and has most of such words whole; even at two tokens a word and one a sign they fit.
    assert 0 < 2 * len(text.split()) + text.count(",") + text.count("-") <= 75


def test_every_policy_that_ships_is_found_by_its_name() -> None:
    assert Policy.shipped("default") == Policy.default()
    harmless = Policy.shipped("harmless")
    assert harmless.name == "harmless"
    assert list(harmless.categories) == ["teapots"]
    assert harmless.guidance.text == "teapot"
    assert not any(rule.action is Action.FLAG for rule in harmless.categories.values())


@pytest.mark.parametrize("name", ["", "harm", "../policies/default", "default.toml"])
def test_a_policy_that_does_not_ship_is_answered_with_those_that_do(name: str) -> None:
    with pytest.raises(ConfigError, match=r"policy\.name: .*default, harmless"):
        Policy.shipped(name)
