from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from page_fakes import POLICY
from safelight import CoolDown, Decision, InvalidRequest, Outcome, Policy, Reason, Stage, Verdict
from safelight.policy import Action
from safelight_ui.notices import Notices, footer, header, vocabulary

EVIL = "<script>alert(1)</script>"
BLOCKED = Decision(
    id="dec_1",
    request_id="req_1",
    stage=Stage.PROMPT,
    action=Action.BLOCK,
    reason=Reason.CATEGORY,
    categories=("sentinel",),
    policy="sha256:0",
    verdicts=(),
    created=datetime(2026, 1, 1, tzinfo=UTC),
)


def notices(appeal: str = "") -> Notices:
    return Notices(Policy.parse(POLICY), appeal)


def test_texts_from_the_configuration_are_shown_as_text() -> None:
    shown = [
        notices(EVIL).refused(BLOCKED),
        notices('https://example.org/"><script>alert(1)</script>').refused(BLOCKED),
        notices().unavailable(replace(BLOCKED, verdicts=(Verdict(EVIL, Stage.PROMPT, outcome=Outcome.FAILED),))),
        notices().invalid(InvalidRequest(EVIL, EVIL)),
        header(EVIL),
        vocabulary({EVIL: [EVIL]}),
        footer(Policy.parse(POLICY), prompt_screens=[EVIL], image_screens=[EVIL], judge_note=EVIL),
    ]
    for html in shown:
        assert "<script" not in html
        assert "&lt;script&gt;" in html


def test_an_appeal_is_a_link_where_it_is_one_and_never_a_script() -> None:
    assert 'href="mailto:a@example.org"' in notices("mailto:a@example.org").refused(BLOCKED)
    assert 'href="https://example.org/a"' in notices("https://example.org/a").refused(BLOCKED)
    assert "href" not in notices("javascript:alert(1)").refused(BLOCKED)
    assert "whoever runs this page" in notices().refused(BLOCKED)


@pytest.mark.parametrize(
    ("reason", "said"), [(Reason.PROVIDER_REFUSED, "A judge declined"), (Reason.RESTRICTED, "This cannot be made.")]
)
def test_a_refusal_without_a_category_still_says_why(reason: Reason, said: str) -> None:
    html = notices().refused(replace(BLOCKED, reason=reason, categories=()))
    assert said in html
    assert "dec_1" in html


def test_a_category_that_the_policy_no_longer_has_is_no_crash() -> None:
    assert "Not allowed" in notices().refused(replace(BLOCKED, categories=("gone",)))


def test_the_stage_is_told() -> None:
    assert "<b>prompt</b>" in notices().refused(BLOCKED)
    assert "<b>picture</b>" in notices().refused(replace(BLOCKED, stage=Stage.IMAGE, index=0, image_sha256="0"))


def test_a_fault_without_a_decision_is_still_no_refusal() -> None:
    html = notices().unavailable(None)
    assert "Our fault" in html
    assert 'data-state="unavailable"' in html


def test_a_refusal_near_a_limit_warns_and_another_does_not() -> None:
    assert "After 1 more refused request the page pauses" in notices().refused(BLOCKED, 1)
    assert "After 2 more refused requests the page pauses" in notices().refused(BLOCKED, 2)
    assert "paused for now" in notices().refused(BLOCKED, 0)
    assert "pause" not in notices().refused(BLOCKED)


def test_a_pause_says_until_when_and_which_decision_to_appeal() -> None:
    html = notices("mailto:a@example.org").paused(CoolDown(datetime(2026, 1, 2, 3, 4, tzinfo=UTC), decision_id="dec_9"))
    assert "03:04 UTC on 02 January" in html and "dec_9" in html and "mailto:a@example.org" in html
    assert 'data-state="paused"' in html


def test_a_hold_says_that_a_person_has_to_look() -> None:
    html = notices().paused(CoolDown(None, decision_id="dec_9"))
    assert "a person has looked" in html and "goes on by itself" not in html


def test_a_model_that_names_no_words_has_no_list() -> None:
    assert vocabulary({}) == vocabulary({"things": ()}) == ""
