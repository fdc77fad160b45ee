from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fakes import ALICE, BOB, FakeGenerator, FakeJudge, make_guard, sentinel_policy, sentinel_screen
from safelight.enforcement import TENANT, Enforcement, Level
from safelight.errors import ConfigError, ContentBlocked, CoolDown, StoreUnavailable
from safelight.guard import Guard
from safelight.policy import Action, Decision, Reason
from safelight.request import GenerationRequest, Principal
from safelight.rules import Consequence, EnforcementRule, Limit
from safelight.screens.blocked_before import BlockedBefore
from safelight.store.blocked_prompts import BlockedPrompts
from safelight.store.sqlite import SQLiteStore
from safelight.store.strikes import AttemptKind, Strikes
from safelight.verdict import Stage

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SCENE = "a zorblax on a carved chair in a walled garden at dusk, lanterns in the trees, oil on canvas"
VARIANT = SCENE.replace("zorblax", "zorblux")


@dataclass
class World:
    """A store with enforcement over it, and a clock that the test moves."""

    rule: EnforcementRule = field(default_factory=EnforcementRule)
    store: SQLiteStore = field(default_factory=lambda: SQLiteStore(":memory:"))
    now: datetime = NOW
    asked: int = 0

    def __post_init__(self) -> None:
        self.strikes = Strikes(self.store)
        self.enforcement = self.another_process()

    def another_process(self, secret: bytes = b"secret") -> Enforcement:
        return Enforcement(self.rule, self.strikes, BlockedPrompts(self.store), secret=secret, clock=lambda: self.now)

    def ask(
        self,
        prompt: str = "zorblax",
        principal: Principal = ALICE,
        *,
        reason: Reason = Reason.CLEAR,
        stage: Stage = Stage.PROMPT,
        categories: tuple[str, ...] = ("sentinel",),
        **texts: Any,
    ) -> Decision:
        """Reserve, rule, record and note a request; a ruling on a picture comes after an allow of its prompt."""
        self.asked += 1
        request = GenerationRequest(prompt, principal, **texts)
        request_id = f"req_{self.asked}"
        self.store.reserve(request_id, request, at=self.now, limit=1)
        if stage is Stage.IMAGE:
            self.rule_on(request, request_id, Stage.PROMPT, Reason.CLEAR)
        return self.rule_on(request, request_id, stage, reason, categories)

    def rule_on(
        self,
        request: GenerationRequest,
        id: str,
        stage: Stage,
        reason: Reason,
        found: tuple[str, ...] = (),
        index: int = 0,
    ) -> Decision:
        decision = Decision(
            id=f"dec_{id}_{stage}_{index}",
            request_id=id,
            stage=stage,
            action=Action.ALLOW if reason is Reason.CLEAR else Action.BLOCK,
            reason=reason,
            categories=() if reason is Reason.CLEAR else found,
            policy="sha256:1",
            verdicts=(),
            created=self.now,
            index=index if stage is Stage.IMAGE else None,
            image_sha256=f"{index:064d}" if stage is Stage.IMAGE else None,
        )
        self.store.record(decision)
        self.enforcement.note(request, decision)
        return decision

    def kinds(self, principal: Principal = ALICE) -> list[AttemptKind]:
        found = self.strikes.of_principal(principal.tenant, principal.id, since=NOW - 100 * DAY, limit=100)
        return [attempt.kind for attempt in found]

    def level(self, principal: Principal = ALICE) -> Level:
        try:
            return self.enforcement.check(principal).level
        except CoolDown as error:
            return Level.COOL_DOWN if error.until else Level.HELD


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.store.close()


def test_blocks_warn_then_cool_down_then_hold(world: World) -> None:
    found = [world.level()]
    for _ in range(10):
        world.ask(reason=Reason.CATEGORY)
        found.append(world.level())
    assert found == [Level.CLEAR, Level.WARNED, Level.WARNED, *[Level.COOL_DOWN] * 7, Level.HELD]


def test_a_cool_down_says_until_when_and_which_block_it_was(world: World) -> None:
    for _ in range(3):
        last = world.ask(reason=Reason.CATEGORY)
    with pytest.raises(CoolDown) as caught:
        world.enforcement.check(ALICE)
    assert (caught.value.until, caught.value.decision_id, caught.value.scope) == (
        NOW + 10 * MINUTE,
        last.id,
        "principal",
    )
    world.now += 10 * MINUTE
    assert world.level() is Level.WARNED


@pytest.mark.parametrize(
    "reason", [Reason.PROVIDER_REFUSED, Reason.SCREENING_UNAVAILABLE, Reason.GENERATION_FAILED, Reason.ABORTED]
)
@pytest.mark.parametrize("stage", list(Stage))
def test_faults_and_refusals_of_a_provider_are_no_attempts(world: World, reason: Reason, stage: Stage) -> None:
    for _ in range(12):
        world.ask(reason=reason, stage=stage)
    assert (world.kinds(), world.level()) == ([], Level.CLEAR)


def test_allowed_requests_are_no_attempts(world: World) -> None:
    for stage in (Stage.PROMPT, Stage.IMAGE):
        world.ask("tea", stage=stage)
    assert world.kinds() == []


def test_rotating_the_person_resets_nothing_and_another_principal_is_untouched(world: World) -> None:
    for number in range(3):
        world.ask(principal=replace(ALICE, person=f"p{number}"), reason=Reason.CATEGORY)
    assert world.level(replace(ALICE, person="fresh")) is Level.COOL_DOWN
    assert world.level(BOB) is Level.CLEAR
    assert world.level(replace(ALICE, tenant="other")) is Level.CLEAR


def test_somebody_whom_nobody_authenticated_has_a_quarter_of_the_attempts_and_never_only_one(world: World) -> None:
    visitor = Principal("page:net", anonymous=True)
    world.ask(principal=visitor, reason=Reason.CATEGORY)
    assert world.level(visitor) is Level.WARNED
    world.now += 2 * HOUR
    world.ask(principal=visitor, reason=Reason.CATEGORY)
    world.now += 2 * HOUR
    # Two of five in a day, rounded up from a quarter.
    assert world.level(visitor) is Level.COOL_DOWN


def test_a_share_is_not_rounded_up_for_an_error_in_the_last_place() -> None:
    seven = (Limit(10, DAY, Consequence.COOL_DOWN, DAY),)
    world = World(EnforcementRule(limits=seven, anonymous_share=0.7, tenant_limits=()))
    visitor = Principal("page:net", anonymous=True)
    for _ in range(6):
        world.ask(principal=visitor, reason=Reason.CATEGORY)
    assert world.level(visitor) is Level.WARNED
    world.ask(principal=visitor, reason=Reason.CATEGORY)
    assert world.level(visitor) is Level.COOL_DOWN


def test_a_batch_of_blocked_pictures_is_one_attempt(world: World) -> None:
    request = GenerationRequest("tea", ALICE, n=3)
    world.store.reserve("r", request, at=NOW, limit=1)
    world.rule_on(request, "r", Stage.PROMPT, Reason.CLEAR)
    for index in range(3):
        world.rule_on(request, "r", Stage.IMAGE, Reason.CATEGORY, ("sentinel",), index)
    assert world.kinds() == [AttemptKind.PICTURE_BLOCKED]


def test_the_gravest_category_holds_at_once(world: World) -> None:
    found = world.ask("tea", reason=Reason.RESTRICTED, categories=("sexual/minors",))
    assert (world.level(), world.kinds()) == (Level.HELD, [AttemptKind.GRAVE])
    with pytest.raises(CoolDown) as caught:
        world.enforcement.check(ALICE)
    assert (caught.value.until, caught.value.decision_id) == (None, found.id)
    assert world.level(BOB) is Level.CLEAR


def test_the_gravest_category_counts_as_an_attempt_where_the_policy_does_not_hold_for_it() -> None:
    world = World(EnforcementRule(hold_gravest=False))
    world.ask("tea", reason=Reason.RESTRICTED)
    assert (world.level(), world.kinds()) == (Level.WARNED, [AttemptKind.GRAVE])


def test_a_grave_picture_in_a_batch_holds_whatever_was_found_in_the_ones_before(world: World) -> None:
    request = GenerationRequest("tea", ALICE, n=2)
    world.store.reserve("r", request, at=NOW, limit=1)
    world.rule_on(request, "r", Stage.PROMPT, Reason.CLEAR)
    world.rule_on(request, "r", Stage.IMAGE, Reason.RESTRICTED, ("sexual/minors",), 0)
    world.rule_on(request, "r", Stage.IMAGE, Reason.CATEGORY, ("sentinel",), 1)
    assert world.kinds() == [AttemptKind.GRAVE]
    assert world.level() is Level.HELD
    # The second picture's finding does not overwrite the first one's.
    assert set(world.enforcement.recall(request) or ()) == {"sexual/minors", "sentinel"}


def test_a_hold_lasts_until_somebody_releases_it_and_then_the_slate_is_clean(world: World) -> None:
    for _ in range(10):
        world.ask(reason=Reason.CATEGORY)
    world.now += 400 * DAY
    assert world.level() is Level.HELD
    assert world.enforcement.release(ALICE.tenant, ALICE.id)
    assert world.level() is Level.CLEAR
    assert not world.enforcement.release(ALICE.tenant, ALICE.id)


def test_a_release_after_the_clock_was_set_back_forgives_what_now_lies_in_the_future(world: World) -> None:
    for _ in range(10):
        world.ask(reason=Reason.CATEGORY)
    world.now -= HOUR
    assert world.level() is Level.HELD
    assert world.enforcement.release(ALICE.tenant, ALICE.id)
    assert world.level() is Level.CLEAR


def test_a_won_appeal_takes_its_attempt_back(world: World) -> None:
    found = [world.ask(reason=Reason.CATEGORY) for _ in range(3)]
    assert world.level() is Level.COOL_DOWN
    world.enforcement.overturn(found[1].id)
    assert world.level() is Level.WARNED
    assert len(world.kinds()) == 2


def test_a_won_appeal_ends_a_hold_that_rested_on_it(world: World) -> None:
    found = [world.ask(reason=Reason.CATEGORY) for _ in range(10)]
    world.enforcement.overturn("dec_of_somebody_else")
    assert world.level() is Level.HELD
    world.enforcement.overturn(found[4].id)
    assert world.level() is Level.CLEAR


def test_a_won_appeal_ends_no_hold_that_others_call_for(world: World) -> None:
    found = [world.ask("tea", reason=Reason.RESTRICTED) for _ in range(2)]
    world.enforcement.overturn(found[0].id)
    assert world.level() is Level.HELD
    world.enforcement.overturn(found[1].id)
    assert world.level() is Level.CLEAR


def test_a_won_appeal_after_the_attempt_has_decayed_still_ends_its_hold(world: World) -> None:
    found = world.ask("tea", reason=Reason.RESTRICTED)
    world.now += 60 * DAY
    world.enforcement.overturn(found.id)
    assert world.level() is Level.CLEAR


def test_the_attempts_of_a_whole_tenant_cool_all_of_it_down_and_nobody_else() -> None:
    world = World(EnforcementRule(tenant_limits=(Limit(4, HOUR, Consequence.COOL_DOWN, HOUR),)))
    for number in range(4):
        world.ask(principal=Principal(f"key_{number}"), reason=Reason.CATEGORY)
    with pytest.raises(CoolDown) as caught:
        world.enforcement.check(BOB)
    assert (caught.value.scope, caught.value.until) == ("tenant", NOW + HOUR)
    assert world.level(Principal("key", tenant="other")) is Level.CLEAR
    assert world.strikes.holds() == ()


def test_how_near_the_tenant_is_to_its_limits_is_told_to_nobody() -> None:
    world = World(EnforcementRule(tenant_limits=(Limit(4, HOUR, Consequence.COOL_DOWN, HOUR),)))
    for number in range(3):
        world.ask(principal=Principal(f"key_{number}"), reason=Reason.CATEGORY)
    standing = world.enforcement.check(BOB)
    assert (standing.level, standing.left, standing.attempts, standing.decision_id) == (Level.CLEAR, 3, 0, "")


def test_a_principals_hold_counts_more_than_the_tenants_cool_down() -> None:
    world = World(EnforcementRule(tenant_limits=(Limit(1, HOUR, Consequence.COOL_DOWN, HOUR),)))
    world.ask("tea", reason=Reason.RESTRICTED)
    assert (world.level(), world.level(BOB)) == (Level.HELD, Level.COOL_DOWN)


def test_a_tenant_is_held_where_the_policy_says_so_and_can_be_released() -> None:
    world = World(EnforcementRule(tenant_limits=(Limit(2, HOUR, Consequence.HOLD, None),)))
    for number in range(2):
        world.ask(principal=Principal(f"key_{number}"), reason=Reason.CATEGORY)
    world.now += 100 * DAY
    assert world.level(BOB) is Level.HELD
    assert world.enforcement.release(BOB.tenant, TENANT)
    assert world.level(BOB) is Level.CLEAR


def test_a_variant_of_a_blocked_prompt_counts_although_it_was_allowed(world: World) -> None:
    world.ask(SCENE, reason=Reason.CATEGORY)
    world.ask(VARIANT, replace(ALICE, person="another"))
    assert world.kinds() == [AttemptKind.BLOCKED, AttemptKind.NEAR_DUPLICATE]


@pytest.mark.parametrize(
    "prompt",
    [
        SCENE.replace("zorblax ", "").replace("a on", "on"),
        "oil on canvas, a walled garden at dusk",
        "a red fox asleep under a hedge, oil on canvas",
    ],
)
def test_a_correction_and_another_prompt_do_not_count(world: World, prompt: str) -> None:
    world.ask(SCENE, reason=Reason.CATEGORY)
    world.ask(prompt)
    assert world.kinds() == [AttemptKind.BLOCKED]


def test_a_variant_counts_once_however_often_it_is_asked(world: World) -> None:
    world.ask(SCENE, reason=Reason.CATEGORY)
    for _ in range(5):
        world.ask(VARIANT)
    assert world.kinds() == [AttemptKind.BLOCKED, AttemptKind.NEAR_DUPLICATE]


def test_a_variant_of_what_another_principal_was_blocked_for_does_not_count(world: World) -> None:
    world.ask(SCENE, reason=Reason.CATEGORY)
    world.ask(VARIANT, BOB)
    assert world.kinds(BOB) == []


def test_a_variant_of_what_was_blocked_two_days_ago_or_wrongly_does_not_count(world: World) -> None:
    found = world.ask(SCENE, reason=Reason.CATEGORY)
    assert world.store.overturn(found.id, at=NOW)
    world.enforcement.overturn(found.id)
    world.ask(VARIANT)
    world.ask(SCENE.replace("garden", "meadow"), reason=Reason.CATEGORY)
    world.now += 2 * DAY
    world.ask(VARIANT.replace("garden", "meadow"))
    assert world.kinds() == [AttemptKind.BLOCKED]


def test_a_variant_of_what_a_provider_refused_to_judge_or_a_person_has_forgiven_does_not_count(world: World) -> None:
    world.ask(SCENE, reason=Reason.PROVIDER_REFUSED)
    world.ask(SCENE)
    world.ask(VARIANT)
    assert world.kinds() == []
    world.ask(SCENE, BOB, reason=Reason.CATEGORY)
    world.enforcement.release(BOB.tenant, BOB.id)
    world.ask(VARIANT, BOB)
    assert world.kinds(BOB) == []


def test_variants_do_not_count_where_the_policy_turns_them_off() -> None:
    world = World(EnforcementRule(near_duplicate=0.0))
    world.ask(SCENE, reason=Reason.CATEGORY)
    world.ask(VARIANT)
    assert world.kinds() == [AttemptKind.BLOCKED]


@pytest.mark.parametrize("rule", [EnforcementRule(), EnforcementRule(remember=timedelta(), near_duplicate=0.0)])
def test_the_same_prompt_after_its_picture_was_blocked_counts_every_time(rule: EnforcementRule) -> None:
    world = World(rule)
    world.ask(SCENE, stage=Stage.IMAGE, reason=Reason.CATEGORY)
    for negative in (None, "blur", "noise"):
        world.ask(SCENE, negative_prompt=negative)
    assert world.kinds() == [AttemptKind.PICTURE_BLOCKED, *[AttemptKind.REROLL] * 3]


def test_a_prompt_whose_picture_was_blocked_is_remembered_for_the_tenant_for_a_day(world: World) -> None:
    world.ask(SCENE, stage=Stage.IMAGE, reason=Reason.CATEGORY)
    same = GenerationRequest(SCENE, BOB)
    assert world.enforcement.recall(same) == ("sentinel",)
    assert world.enforcement.recall(GenerationRequest(SCENE, replace(BOB, tenant="other"))) is None
    world.now += DAY
    assert world.enforcement.recall(same) is None


@pytest.mark.parametrize(
    "request_",
    [
        GenerationRequest(SCENE.upper().replace(" ", "  "), BOB),
        GenerationRequest("oil on canvas, lanterns in the trees, " + SCENE, BOB),
        GenerationRequest(SCENE.replace("zorblax", "(zorblax:1.3)").replace(",", " |"), BOB),
        GenerationRequest(SCENE.replace("o", "\u043e").replace("a ", "a\u200b "), BOB),
        GenerationRequest(SCENE, BOB, negative_prompt="blur", negative_prompt_2="noise"),
        GenerationRequest(SCENE, BOB, prompt_2=SCENE),
        GenerationRequest("tea", BOB, prompt_2=SCENE),
        GenerationRequest(SCENE, BOB, extra_texts={"style": "engraving"}),
    ],
)
def test_order_case_spacing_weights_disguises_and_other_channels_hide_nothing(
    world: World, request_: GenerationRequest
) -> None:
    world.ask(SCENE, stage=Stage.IMAGE, reason=Reason.CATEGORY, negative_prompt="fog")
    assert world.enforcement.recall(request_) == ("sentinel",)


def test_a_prompt_with_a_word_more_or_less_is_not_the_same(world: World) -> None:
    world.ask(SCENE, stage=Stage.IMAGE, reason=Reason.CATEGORY)
    for prompt in (SCENE + " and gold", SCENE.replace("zorblax", ""), "🍎", "!!"):
        assert world.enforcement.recall(GenerationRequest(prompt, BOB)) is None


def test_prompts_of_nothing_but_signs_are_told_apart(world: World) -> None:
    world.ask("🍎 !!", stage=Stage.IMAGE, reason=Reason.CATEGORY)
    world.ask("?!", stage=Stage.IMAGE, reason=Reason.CATEGORY)
    found = [world.enforcement.recall(GenerationRequest(text, BOB)) for text in ("🍎", "🍐", "?!", "...")]
    assert found == [("sentinel",), None, ("sentinel",), None]


@pytest.mark.parametrize(
    "reason", [Reason.SCREENING_UNAVAILABLE, Reason.PROVIDER_REFUSED, Reason.GENERATION_FAILED, Reason.CLEAR]
)
def test_a_picture_with_a_fault_is_not_remembered(world: World, reason: Reason) -> None:
    world.ask(SCENE, stage=Stage.IMAGE, reason=reason)
    assert world.enforcement.recall(GenerationRequest(SCENE, ALICE)) is None


def test_a_blocked_prompt_without_a_picture_is_not_remembered(world: World) -> None:
    world.ask(SCENE, reason=Reason.CATEGORY)
    assert world.enforcement.recall(GenerationRequest(SCENE, ALICE)) is None


def test_a_restricted_picture_is_remembered_as_that_even_if_its_screen_named_no_category(world: World) -> None:
    world.ask(SCENE, stage=Stage.IMAGE, reason=Reason.RESTRICTED, categories=())
    assert world.enforcement.recall(GenerationRequest(SCENE, BOB)) == ("sexual/minors",)


def test_a_won_appeal_is_forgotten(world: World) -> None:
    found = world.ask(SCENE, stage=Stage.IMAGE, reason=Reason.CATEGORY)
    world.enforcement.overturn(found.id)
    assert world.enforcement.recall(GenerationRequest(SCENE, ALICE)) is None


def test_a_won_appeal_against_a_refusal_for_memorys_sake_is_forgotten_too(world: World) -> None:
    world.ask(SCENE, stage=Stage.IMAGE, reason=Reason.CATEGORY)
    refused = world.ask(SCENE, principal=BOB, stage=Stage.PROMPT, reason=Reason.CATEGORY)
    world.enforcement.overturn(refused.id)
    assert world.enforcement.recall(GenerationRequest(SCENE, BOB)) is None


def test_the_store_holds_no_text_of_a_remembered_prompt_and_no_digest_that_others_can_make(world: World) -> None:
    world.ask(SCENE, stage=Stage.IMAGE, reason=Reason.CATEGORY)
    held = world.store.transact(lambda run: run("SELECT * FROM blocked_prompts", {}), write=False)
    assert len(held) >= 1
    assert "zorblax" not in str(held)
    assert world.another_process(b"other").recall(GenerationRequest(SCENE, ALICE)) is None
    assert world.another_process().recall(GenerationRequest(SCENE, ALICE)) is not None


def test_rules_that_are_off_count_and_remember_nothing() -> None:
    world = World(EnforcementRule.off())
    for reason in (Reason.CATEGORY, Reason.RESTRICTED):
        for stage in Stage:
            world.ask(SCENE, stage=stage, reason=reason)
    world.ask(VARIANT)
    assert (world.kinds(), world.level()) == ([], Level.CLEAR)
    assert world.enforcement.recall(GenerationRequest(SCENE, ALICE)) is None


def test_a_hold_counts_even_where_rules_are_off() -> None:
    world = World(EnforcementRule.off())
    world.strikes.hold(ALICE.tenant, ALICE.id, at=NOW, decision_id="dec_x")
    assert world.level() is Level.HELD


def test_a_store_that_does_not_answer_turns_everybody_away(world: World) -> None:
    world.store.close()
    with pytest.raises(StoreUnavailable):
        world.enforcement.check(ALICE)


def test_an_empty_secret_is_refused(world: World) -> None:
    with pytest.raises(ConfigError, match="secret"):
        world.another_process(b"")


def guarded(world: World, judge: FakeJudge, rule: EnforcementRule) -> Guard:
    world.rule = rule
    world.enforcement = world.another_process()
    guard = make_guard(
        store=world.store,
        prompt_screens=[
            BlockedBefore(policy=sentinel_policy(), memory=world.enforcement),
            sentinel_screen(),
            judge,
        ],
    )
    guard.enforcement = world.enforcement
    return guard


async def test_thirty_blocked_variants_under_changing_names_are_judged_three_times_and_never_again(
    world: World,
) -> None:
    judge = FakeJudge()
    guard = guarded(world, judge, EnforcementRule())
    refused = []
    for number in range(30):
        # No whole word, so that the local terms let it pass; the judge does not.
        request = GenerationRequest(f"zorblaxes number {number}", replace(ALICE, person=f"u{number}"))
        with pytest.raises((ContentBlocked, CoolDown)) as caught:
            await guard.create(request, FakeGenerator())
        refused.append(type(caught.value))
    assert refused == [ContentBlocked] * 3 + [CoolDown] * 27
    assert len(judge.seen) == 3
    assert (await guard.create(GenerationRequest("tea", BOB), FakeGenerator())).released


async def test_a_prompt_whose_picture_was_blocked_is_refused_to_another_key_before_anything_is_made(
    world: World,
) -> None:
    guard = guarded(world, FakeJudge(), EnforcementRule())
    with pytest.raises(ContentBlocked):
        await guard.create(GenerationRequest("tea by the sea", ALICE), FakeGenerator(spoil=[0]))
    generator = FakeGenerator()
    with pytest.raises(ContentBlocked) as caught:
        await guard.create(GenerationRequest("Tea by the  SEA", BOB), generator)
    assert (caught.value.decision.stage, caught.value.decision.categories) == (Stage.PROMPT, ("sentinel",))
    assert generator.requests == []
    assert world.kinds(BOB) == [AttemptKind.BLOCKED]


async def test_one_prompt_rolled_again_and_again_until_a_picture_passes_cools_down(world: World) -> None:
    judge = FakeJudge()
    guard = guarded(world, judge, EnforcementRule())
    refused = []
    for seed in range(6):
        with pytest.raises((ContentBlocked, CoolDown)) as caught:
            await guard.create(GenerationRequest("tea by the sea", ALICE, seed=seed), FakeGenerator(spoil=[0]))
        refused.append(type(caught.value))
    assert refused == [ContentBlocked] * 3 + [CoolDown] * 3
    assert len(judge.seen) == 1


@pytest.mark.parametrize(
    "again", ["a r3d p0ppy f1eld", "a red p.o.p.p.y field", "\u0430 red poppy field", "a red pop\u200bpy field"]
)
def test_a_remembered_prompt_is_known_in_disguise(world: World, again: str) -> None:
    world.ask("a red poppy field", stage=Stage.IMAGE, reason=Reason.CATEGORY)
    assert world.enforcement.recall(GenerationRequest(again, BOB)) is not None


def test_what_was_blocked_in_disguise_is_known_without_it(world: World) -> None:
    world.ask("a r3d p0ppy f1eld", stage=Stage.IMAGE, reason=Reason.CATEGORY)
    assert world.enforcement.recall(GenerationRequest("a red poppy field", BOB)) is not None


def test_a_few_principals_cannot_use_up_what_a_tenant_has_together() -> None:
    limits = (Limit(20, HOUR, Consequence.COOL_DOWN, HOUR),)
    world = World(EnforcementRule(limits=(), tenant_limits=limits))
    for number in range(3):
        for _ in range(15):
            world.ask(principal=Principal(f"key_{number}"), reason=Reason.CATEGORY)
    assert world.level(BOB) is Level.CLEAR
    for number in range(3, 6):
        for _ in range(5):
            world.ask(principal=Principal(f"key_{number}"), reason=Reason.CATEGORY)
    assert world.level(BOB) is Level.COOL_DOWN
