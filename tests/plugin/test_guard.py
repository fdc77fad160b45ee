from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fakes import (
    ALICE,
    BOB,
    MARKER,
    SENTINEL,
    BrokenImageScreen,
    FakeGenerator,
    FakeJudge,
    FaultyStore,
    MarkerScreen,
    failed,
    make_guard,
    sentinel_screen,
)
from safelight.encoding import encode_png, encode_raw, sha256_hex
from safelight.errors import ConfigError, ContentBlocked, GenerationFailed, ScreeningUnavailable, StoreUnavailable
from safelight.guard import GuardSettings
from safelight.policy import Action, Reason
from safelight.request import GenerationRequest, Principal
from safelight.store.sqlite import SQLiteStore
from safelight.verdict import Outcome, Stage, Verdict


def ask(prompt: str = "a cup of tea", principal: Principal = ALICE, **more: Any) -> GenerationRequest:
    return GenerationRequest(prompt, principal, **more)


async def test_a_harmless_request_gives_the_picture_with_both_rulings_in_the_store() -> None:
    guard = make_guard()
    creation = await guard.create(ask(n=2), FakeGenerator(), encode=encode_png)
    assert len(creation.released) == 2
    rulings = guard.store.decisions(request_id=creation.admission.decision.request_id)
    assert [(d.stage, d.action) for d in rulings] == [(Stage.PROMPT, Action.ALLOW)] + [(Stage.IMAGE, Action.ALLOW)] * 2
    assert [d.image_sha256 for d in rulings[1:]] == [sha256_hex(item.data) for item in creation.released]
    assert rulings[0].screens == ("terms",)
    assert rulings[1].screens == ("marker",)


async def test_the_sentinel_is_refused_without_a_call_to_the_generator() -> None:
    guard, generator = make_guard(), FakeGenerator()
    with pytest.raises(ContentBlocked) as blocked:
        await guard.create(ask(f"a {SENTINEL} in a field"), generator)
    assert generator.requests == []
    assert blocked.value.decision.categories == ("sentinel",)
    assert guard.store.decisions(request_id=blocked.value.decision.request_id) == [blocked.value.decision]


@pytest.mark.parametrize("channel", ["prompt_2", "negative_prompt", "negative_prompt_2"])
async def test_every_text_channel_is_judged(channel: str) -> None:
    with pytest.raises(ContentBlocked):
        await make_guard().create(ask("tea", ALICE, **{channel: SENTINEL}), FakeGenerator())


async def test_a_marked_picture_is_withheld_at_its_place_and_the_others_arrive() -> None:
    creation = await make_guard().create(ask(n=4), FakeGenerator(spoil=[2]))
    assert creation.withheld == (2,)
    assert len(creation.released) == 3
    assert creation.pictures[2].encoded is None
    assert creation.pictures[2].decision.categories == ("sentinel",)


async def test_a_batch_with_nothing_left_is_blocked_at_the_image_stage() -> None:
    with pytest.raises(ContentBlocked) as blocked:
        await make_guard().create(ask(n=2), FakeGenerator(spoil=[0, 1]))
    assert blocked.value.decision.stage is Stage.IMAGE


async def test_a_later_screen_cannot_overturn_a_block_and_is_not_asked() -> None:
    judge = FakeJudge()
    with pytest.raises(ContentBlocked):
        await make_guard(prompt_screens=[sentinel_screen(), judge]).create(ask(SENTINEL), FakeGenerator())
    assert judge.seen == []


@pytest.mark.parametrize("outcome", [o for o in Outcome if o not in (Outcome.OK, Outcome.REFUSED, Outcome.RESTRICTED)])
async def test_a_failed_judge_is_a_fault_and_no_picture_is_made(outcome: Outcome) -> None:
    generator = FakeGenerator()
    guard = make_guard(prompt_screens=[sentinel_screen(), FakeJudge(answer=lambda request: failed(outcome))])
    with pytest.raises(ScreeningUnavailable) as fault:
        await guard.create(ask(), generator)
    assert generator.requests == []
    assert fault.value.decision is not None
    assert fault.value.decision.reason is Reason.SCREENING_UNAVAILABLE


def explode(request: GenerationRequest) -> Verdict:
    raise RuntimeError(f"and the message holds {request.prompt}")


@pytest.mark.parametrize(
    "answer",
    [
        explode,
        lambda request: None,
        lambda request: "allow",
        lambda request: Verdict("somebody-else", Stage.PROMPT, {"sentinel": 0.0}),
        lambda request: Verdict("judge", Stage.IMAGE, {"sentinel": 0.0}),
        lambda request: Verdict("judge", Stage.PROMPT, {"sentinel": float("nan")}),
        lambda request: Verdict("judge", Stage.PROMPT, {}),
    ],
)
async def test_whatever_a_prompt_screen_does_wrong_ends_as_a_fault(
    answer: Callable[[GenerationRequest], Any], caplog: pytest.LogCaptureFixture
) -> None:
    generator = FakeGenerator()
    with pytest.raises(ScreeningUnavailable):
        await make_guard(prompt_screens=[FakeJudge(answer=answer)]).create(ask("a very private prompt"), generator)
    assert generator.requests == []
    assert "private" not in caplog.text


def clear(images: Sequence[Image.Image]) -> list[Verdict]:
    return [Verdict("broken", Stage.IMAGE, {"sentinel": 0.0}) for _ in images]


def raise_it(images: Sequence[Image.Image]) -> Sequence[Verdict]:
    raise MemoryError


@pytest.mark.parametrize(
    "act",
    [
        raise_it,
        lambda images: clear(images)[:-1],
        lambda images: [*clear(images), *clear(images)],
        lambda images: [],
        lambda images: None,
        lambda images: [None] * len(images),
    ],
)
async def test_whatever_an_image_screen_does_wrong_withholds_the_whole_batch(act: Any) -> None:
    guard = make_guard(image_screens=[MarkerScreen(), BrokenImageScreen(act)])
    with pytest.raises(ScreeningUnavailable):
        await guard.create(ask(n=3), FakeGenerator())


async def test_a_screen_that_hangs_is_timed_out() -> None:
    class Hanging(FakeJudge):
        async def screen_prompt(self, request: Any, history: Any) -> Verdict:
            await asyncio.Event().wait()
            raise AssertionError("never")

    guard = make_guard(prompt_screens=[Hanging()], settings=GuardSettings(screen_deadline_s=0.05))
    with pytest.raises(ScreeningUnavailable) as fault:
        await guard.create(ask(), FakeGenerator())
    assert fault.value.decision is not None
    assert fault.value.decision.verdicts[0].outcome is Outcome.TIMEOUT


async def test_a_screen_that_draws_on_a_picture_changes_neither_the_next_ones_nor_the_delivered() -> None:
    def scribble(images: Sequence[Image.Image]) -> Sequence[Verdict]:
        for image in images:
            image.paste((255, 0, 255), (0, 0, 64, 64))
        return clear(images)

    guard = make_guard(image_screens=[BrokenImageScreen(scribble), MarkerScreen()])
    plain = await make_guard().create(ask(), FakeGenerator())
    creation = await guard.create(ask(), FakeGenerator())
    assert creation.released[0].data == plain.released[0].data


async def test_a_prompt_split_over_two_requests_of_one_person_reaches_the_judge_together() -> None:
    guard = make_guard(prompt_screens=[FakeJudge()])
    await guard.create(ask("zor"), FakeGenerator())
    with pytest.raises(ContentBlocked):
        await guard.create(ask("blax"), FakeGenerator())


async def test_a_prompt_split_over_two_people_does_not() -> None:
    judge = FakeJudge()
    guard = make_guard(prompt_screens=[judge])
    await guard.create(ask("zor"), FakeGenerator())
    await guard.create(ask("blax", BOB), FakeGenerator())
    await guard.create(ask("blax", Principal(ALICE.id, person="a client's other user")), FakeGenerator())
    assert [len(history) for _, history in judge.seen] == [0, 0, 0]


async def test_simultaneous_requests_of_one_person_see_one_another() -> None:
    judge = FakeJudge()
    guard = make_guard(prompt_screens=[judge])
    await asyncio.gather(*(guard.create(ask(f"picture {k}"), FakeGenerator()) for k in range(8)))
    assert sorted(len(history) for _, history in judge.seen) == list(range(8))


async def test_the_history_shown_is_bounded_recent_and_in_order() -> None:
    judge = FakeJudge()
    guard = make_guard(prompt_screens=[judge], settings=GuardSettings(history_turns=3))
    for k in range(6):
        await guard.create(ask(f"picture {k}"), FakeGenerator())
    assert [turn.texts["prompt"] for turn in judge.seen[-1][1]] == ["picture 2", "picture 3", "picture 4"]


@pytest.mark.parametrize("failing", ["reserve", "record prompt"])
async def test_a_store_that_fails_before_the_generator_keeps_it_from_being_called(failing: str) -> None:
    generator = FakeGenerator()
    with pytest.raises(StoreUnavailable):
        await make_guard(store=FaultyStore(failing)).create(ask(), generator)
    assert generator.requests == []


@pytest.mark.parametrize("failing", ["record image", "is_releasable"])
async def test_a_store_that_fails_after_the_generator_lets_nothing_out(failing: str) -> None:
    with pytest.raises(ScreeningUnavailable):
        await make_guard(store=FaultyStore(failing)).create(ask(), FakeGenerator())


async def test_a_picture_without_proof_in_the_store_stays() -> None:
    class Forgetful(SQLiteStore):
        def record(self, decision: Any) -> None:
            if decision.stage is Stage.PROMPT:
                super().record(decision)

    with pytest.raises(ScreeningUnavailable, match="no proof"):
        await make_guard(store=Forgetful(":memory:")).create(ask(), FakeGenerator())


def fail() -> None:
    raise RuntimeError("out of memory on the card")


async def test_a_generator_that_fails_is_a_fault_and_the_turn_stays_in_the_history() -> None:
    judge = FakeJudge()
    guard = make_guard(prompt_screens=[judge])
    with pytest.raises(GenerationFailed) as error:
        await guard.create(ask("first"), FakeGenerator(act=fail))
    assert "card" not in str(error.value)
    await guard.create(ask("second"), FakeGenerator())
    assert [(turn.texts["prompt"], turn.action) for turn in judge.seen[-1][1]] == [("first", None)]


async def test_a_generator_that_makes_too_few_pictures_is_a_fault() -> None:
    class Stingy(FakeGenerator):
        def generate(self, request: Any, progress: Any) -> Sequence[Image.Image]:
            return super().generate(request, progress)[:-1]

    with pytest.raises(GenerationFailed, match="1 pictures instead of 2"):
        await make_guard().create(ask(n=2), Stingy())


async def test_a_client_that_leaves_stops_the_generator_at_its_next_step() -> None:
    started, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    class Slow(FakeGenerator):
        def generate(self, request: Any, progress: Any) -> Sequence[Image.Image]:
            started.set()
            go_on.wait(10)
            try:
                return super().generate(request, progress)
            except GenerationFailed:
                ended.set()
                raise

    task = asyncio.create_task(make_guard().create(ask(), Slow()))
    await asyncio.to_thread(started.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    assert await asyncio.to_thread(ended.wait, 10)


async def test_a_restricted_decision_is_held_and_its_text_erased(tmp_path: Path) -> None:
    judge = FakeJudge(answer=lambda request: failed(Outcome.RESTRICTED))
    guard = make_guard(prompt_screens=[judge], path=tmp_path / "s.db")
    with pytest.raises(ContentBlocked) as blocked:
        await guard.create(ask("an unmistakable wording"), FakeGenerator())
    assert blocked.value.decision.reason is Reason.RESTRICTED
    on_disk = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"unmistakable" not in on_disk
    assert blocked.value.decision.id.encode() in on_disk


def test_two_screens_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="share the name"):
        make_guard(prompt_screens=[sentinel_screen(), sentinel_screen()])


async def test_a_guard_without_screens_releases_nothing() -> None:
    with pytest.raises(ScreeningUnavailable):
        await make_guard(prompt_screens=[]).create(ask(), FakeGenerator())
    with pytest.raises(ScreeningUnavailable):
        await make_guard(image_screens=[]).create(ask(), FakeGenerator())


@pytest.mark.parametrize("error", [StopIteration, SystemExit, asyncio.CancelledError])
async def test_errors_that_are_no_ordinary_ones_are_a_screens_failure_all_the_same(error: type[BaseException]) -> None:
    def act(request: GenerationRequest) -> Verdict:
        raise error

    with pytest.raises(ScreeningUnavailable):
        await make_guard(prompt_screens=[FakeJudge(answer=act)]).create(ask(), FakeGenerator())


async def test_a_generator_that_raises_what_no_future_carries_is_a_fault() -> None:
    def stop() -> None:
        raise StopIteration

    with pytest.raises(GenerationFailed):
        await make_guard().create(ask(), FakeGenerator(act=stop))


async def test_a_finding_that_nobody_knows_is_a_fault() -> None:
    judge = FakeJudge(answer=lambda request: Verdict("judge", Stage.PROMPT, {"nobody": 1.0}))
    with pytest.raises(ScreeningUnavailable):
        await make_guard(prompt_screens=[judge]).create(ask(), FakeGenerator())


async def test_a_store_whose_file_was_deleted_lets_nothing_out(tmp_path: Path) -> None:
    guard = make_guard(path=tmp_path / "s.db")
    await guard.create(ask(), FakeGenerator())
    (tmp_path / "s.db").unlink()
    with pytest.raises(StoreUnavailable):
        await guard.create(ask(), FakeGenerator())


async def test_reserved_requests_of_one_person_see_one_another_before_any_is_judged() -> None:
    judge = FakeJudge()
    guard = make_guard(prompt_screens=[judge])
    first, second = [await guard.reserve(GenerationRequest(text, ALICE)) for text in ("zor", "blax")]
    with pytest.raises(ContentBlocked):
        await guard.rule(second)
    assert (await guard.rule(first)).decision.allows


async def test_an_input_picture_that_is_blocked_blocks_its_request() -> None:
    guard = make_guard()
    reservation = await guard.reserve(GenerationRequest("a cup", ALICE))
    plain, marked = (encode_raw(Image.new("RGB", (32, 32), colour)) for colour in ("white", MARKER))
    assert [decision.allows for decision in await guard.screen_inputs(reservation, [plain])] == [True]
    with pytest.raises(ContentBlocked) as blocked:
        await guard.screen_inputs(reservation, [plain, marked])
    assert (blocked.value.decision.stage, blocked.value.decision.index) == (Stage.IMAGE, 1)
    assert guard.store.history(ALICE, limit=9).blocked == 1


async def test_a_look_at_a_half_made_picture_records_what_it_blocks_and_nothing_else() -> None:
    guard = make_guard()
    admission = await guard.reserve(GenerationRequest("a cup", ALICE))
    plain, marked = (encode_raw(Image.new("RGB", (32, 32), colour)) for colour in ("white", MARKER))
    found = await guard.preview(admission, [plain, marked])
    assert [decision is not None for decision in found] == [False, True]
    assert guard.store.decisions(request_id=admission.request_id) == [found[1]]


async def test_a_look_that_fails_says_nothing() -> None:
    guard = make_guard(image_screens=[BrokenImageScreen(lambda images: [])])
    reservation = await guard.reserve(GenerationRequest("a cup", ALICE))
    assert await guard.preview(reservation, [encode_raw(Image.new("RGB", (32, 32)))]) == (None,)
    assert guard.store.decisions(request_id=reservation.request_id) == []
