from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from clocks import Clock
from fakes import ALICE, BOB, POLICY, failed, sentinel_policy
from safelight import normalise
from safelight.errors import ConfigError
from safelight.judge_case import prompt_case
from safelight.policy import Action, Policy
from safelight.request import GenerationRequest, History, Principal, Turn
from safelight.verdict import Outcome, Stage, Verdict
from safelight.verdict_cache import CachedScreen, MemoryEntries

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
TEA = GenerationRequest("tea", ALICE)
PAST = History(
    turns=(Turn({"prompt": "coffee"}, NOW - timedelta(hours=1), Action.ALLOW, 0.1),),
    riskiest=(Turn({"prompt": "zorblax"}, NOW - timedelta(days=1), Action.BLOCK, 1.0),),
    kin=(Turn({"prompt": "zorblax again"}, NOW - timedelta(days=2), Action.FLAG, 0.6),),
    total=30,
    blocked=1,
    flagged=2,
    overturned=3,
    clean_run=4,
)


def clear(name: str = "judge", score: float = 0.1, **more: Any) -> Verdict:
    return Verdict(name, Stage.PROMPT, {"sentinel": score, "teapots": 0.0}, **more)


class FakeScreen:
    """A judge that counts how often it is asked, and answers as it is told."""

    def __init__(self, answer: Callable[[], Verdict] = clear) -> None:
        self.name = "judge"
        self.identity = "sha256:judge"
        self.served = ""
        self.asked = 0
        self.answer = answer

    async def screen_prompt(self, request: GenerationRequest, history: Sequence[Turn]) -> Verdict:
        self.asked += 1
        verdict = self.answer()
        self.served = verdict.model or self.served
        return verdict


class PlainScreen:
    """A screen of somebody's own, with the protocol's parts and no more."""

    name = "plain"

    async def screen_prompt(self, request: GenerationRequest, history: Sequence[Turn]) -> Verdict:
        return clear("plain")


class BrokenEntries:
    def get(self, key: bytes) -> Verdict | None:
        raise OSError("out of order")

    def put(self, key: bytes, verdict: Verdict) -> None:
        raise OSError("out of order")


def cached(screen: Any = None, **more: Any) -> CachedScreen:
    settings: dict[str, Any] = {"secret": b"secret", "policy": sentinel_policy(), "clock": Clock()}
    return CachedScreen(screen or FakeScreen(), **settings | more)


async def hits(screen: CachedScreen, request: GenerationRequest = TEA, history: Sequence[Turn] = PAST) -> bool:
    return (await screen.screen_prompt(request, history)).cached


async def test_the_same_question_is_asked_once_and_costs_nothing_the_second_time() -> None:
    paid = clear(reason="clear", model="m", ms=5.0, tokens_in=9, tokens_out=3, cost_usd=0.1)
    screen = cached(FakeScreen(lambda: paid))
    # The first answer says which model is served.
    first, second, third = [await screen.screen_prompt(TEA, PAST) for _ in range(3)]
    assert first is paid
    assert second == third == replace(paid, cached=True, ms=0.0, tokens_in=0, tokens_out=0, cost_usd=None)
    assert screen.screen.asked == 1  # type: ignore[attr-defined]


async def test_an_answer_is_used_until_its_time_is_over_and_no_longer() -> None:
    clock = Clock()
    screen = cached(ttl_s=300.0, clock=clock)
    assert not await hits(screen)
    clock.now += 299.999
    assert await hits(screen)
    # Being used does not prolong it.
    clock.now += 0.001
    assert not await hits(screen)
    assert await hits(screen)


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.OK])
async def test_failures_and_refusals_are_asked_again(outcome: Outcome) -> None:
    screen = cached(FakeScreen(lambda: failed(outcome)))
    for _ in range(3):
        assert not await hits(screen)


@pytest.mark.parametrize(
    ("verdict", "kept"),
    [
        (clear(score=0.249), True),
        (clear(score=0.25), False),
        (clear(score=0.5), False),
        (clear(score=1.0), False),
        (clear(course={"sentinel": 0.29}), True),
        (clear(course={"sentinel": 0.3}), False),
        (Verdict("judge", Stage.PROMPT, {"sentinel": 0.0, "nobody knows": 0.0}), False),
        (clear(name="another"), False),
    ],
)
async def test_only_what_is_clearly_fine_is_kept(verdict: Verdict, kept: bool) -> None:
    screen = cached(FakeScreen(lambda: verdict))
    await hits(screen)
    assert await hits(screen) is kept


async def test_a_threshold_of_the_screens_own_says_what_is_clear() -> None:
    policy = Policy.parse(POLICY.replace('advice = "Leave', 'screens = { judge = 0.1 }\nadvice = "Leave'))
    screen = cached(policy=policy)
    await hits(screen)
    assert not await hits(screen)


async def test_an_exception_of_the_screen_is_the_callers_and_is_not_kept() -> None:
    def broken() -> Verdict:
        raise RuntimeError("out of order")

    screen = cached(FakeScreen(broken))
    for _ in range(2):
        with pytest.raises(RuntimeError):
            await screen.screen_prompt(TEA, PAST)
    assert screen.screen.asked == 2  # type: ignore[attr-defined]


async def test_a_cache_that_fails_is_a_miss(caplog: pytest.LogCaptureFixture) -> None:
    screen = cached(entries=BrokenEntries())
    for _ in range(2):
        assert (await screen.screen_prompt(TEA, PAST)).outcome is Outcome.OK
    assert screen.screen.asked == 2  # type: ignore[attr-defined]
    assert "OSError" in caplog.text
    assert "tea" not in caplog.text.replace("verdict cache", "")


async def test_a_question_that_cannot_be_put_into_words_is_a_miss() -> None:
    screen = cached()
    for _ in range(2):
        assert not await hits(screen, TEA, replace(PAST, total="many"))  # type: ignore[arg-type]


async def test_a_creator_who_rolls_an_allowed_prompt_again_hits_for_the_judge_is_shown_the_same() -> None:
    screen, history = cached(), PAST
    assert not await hits(screen, TEA, history)
    for seed in range(12):
        turn = Turn({"prompt": "tea"}, NOW + timedelta(minutes=seed), Action.ALLOW, 0.1)
        history = replace(
            history, turns=(*history.turns, turn), total=history.total + 1, clean_run=history.clean_run + 1
        )
        assert await hits(screen, GenerationRequest("tea", ALICE, seed=seed), history)
        assert case(history) == case(PAST)


def case(history: History) -> str:
    return prompt_case(TEA, history, nonce="", course=sentinel_policy().course, now=NOW)


def test_nothing_has_been_added_to_a_history_that_the_key_does_not_know() -> None:
    # What a judge may read of it must be in the key: see to that before adding a name here.
    assert [part.name for part in fields(History)] == [
        *("turns", "riskiest", "kin", "total", "blocked", "flagged", "overturned", "clean_run")
    ]
    assert [part.name for part in fields(Turn)] == ["texts", "at", "action", "risk", "overturned"]


async def test_counts_are_told_apart_as_far_as_the_judge_tells_them_apart() -> None:
    for count in (0, 1, 19, 20, 21, 49, 50, 499, 500, 5_000):
        for other in (count + 1, count + 30):
            screen = cached()
            await hits(screen, TEA, replace(PAST, blocked=count))
            more = replace(PAST, blocked=other)
            assert await hits(screen, TEA, more) is (case(more) == case(replace(PAST, blocked=count)))


@pytest.mark.parametrize("action", [None, Action.FLAG, Action.BLOCK])
async def test_the_same_prompt_after_it_was_not_simply_allowed_is_another_question(action: Action | None) -> None:
    screen = cached()
    await hits(screen)
    turn = Turn({"prompt": "tea"}, NOW, action, 0.1)
    assert not await hits(screen, TEA, replace(PAST, turns=(*PAST.turns, turn)))


async def test_another_person_with_the_same_past_shares_an_answer_and_another_tenant_does_not() -> None:
    screen = cached()
    await hits(screen)
    assert await hits(screen, replace(TEA, principal=BOB))
    assert not await hits(screen, replace(TEA, principal=replace(BOB, tenant="other")))


async def test_what_was_allowed_to_a_stranger_is_asked_again_for_somebody_with_a_past() -> None:
    screen = cached()
    await hits(screen, TEA, History())
    assert await hits(screen, TEA, ())
    assert not await hits(screen, TEA, History(blocked=1, total=1))


async def test_answers_of_a_model_that_is_served_no_more_die() -> None:
    judge = FakeScreen(lambda: clear(model="one"))
    screen = cached(judge)
    await hits(screen)
    assert await hits(screen)
    judge.served = "two"
    assert not await hits(screen)


async def test_an_answer_is_kept_under_the_model_that_gave_it() -> None:
    release = asyncio.Event()

    class Slow(FakeScreen):
        async def screen_prompt(self, request: GenerationRequest, history: Sequence[Turn]) -> Verdict:
            await release.wait()
            # Another question's answer came from another model meanwhile.
            self.served = "two"
            return clear(model="one")

    judge = Slow()
    judge.served = "one"
    screen = cached(judge)
    asking = asyncio.create_task(hits(screen))
    await asyncio.sleep(0)
    release.set()
    await asking
    assert not await hits(screen)
    judge.served = "one"
    assert await hits(screen)


async def test_a_verdict_of_two_models_is_kept_under_the_one_that_answered_last() -> None:
    judge = FakeScreen(lambda: clear(model="one + two"))
    screen = cached(judge)

    async def asked(request: GenerationRequest, history: Sequence[Turn]) -> Verdict:
        judge.served = "two"
        return clear(model="one + two")

    judge.screen_prompt = asked  # type: ignore[method-assign]
    await hits(screen)
    assert await hits(screen)


async def test_the_least_used_entries_go_first_when_it_is_full() -> None:
    screen = cached(size=2)
    one, two, three = (GenerationRequest(text, ALICE) for text in ("1", "2", "3"))
    for request in (one, two, one, three):
        await hits(screen, request)
    assert await hits(screen, one)
    assert await hits(screen, three)
    assert not await hits(screen, two)


def test_memory_is_bounded() -> None:
    entries = MemoryEntries(ttl_s=1.0, size=10)
    for number in range(1_000):
        entries.put(number.to_bytes(4, "big"), clear())
    assert len(entries) == 10


async def test_no_text_is_kept() -> None:
    entries = MemoryEntries(ttl_s=60.0, size=10)
    screen = cached(entries=entries)
    await hits(screen, GenerationRequest("a very particular prompt", ALICE))
    assert len(entries) == 1
    assert "particular" not in str(vars(entries))
    # Nor can anybody without the secret find out whether a question was asked.
    other = cached(entries=entries, secret=b"another")
    assert not await hits(other, GenerationRequest("a very particular prompt", ALICE))


def test_what_an_operator_sees_of_a_screen_is_seen_through_the_cache() -> None:
    judge = FakeScreen()
    judge.problems, judge.warnings, judge.served, judge.retry_after_s = ("x",), ("y",), "m", 3.0  # type: ignore[attr-defined]
    screen = cached(judge)
    assert (screen.name, screen.problems, screen.warnings) == ("judge", ("x",), ("y",))
    assert (screen.identity, screen.served, screen.retry_after_s) == ("sha256:judge", "m", 3.0)
    plain = cached(PlainScreen())
    assert (plain.problems, plain.warnings, plain.identity, plain.served, plain.retry_after_s) == ((), (), "", "", 0.0)


async def test_a_screen_with_the_bare_protocol_is_cached_too() -> None:
    screen = cached(PlainScreen())
    assert not await hits(screen)
    assert await hits(screen)


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"secret": b""}, "secret"), ({"ttl_s": 0.0}, "cache_s"), ({"ttl_s": 601.0}, "cache_s"), ({"size": 0}, "size")],
)
def test_a_setting_out_of_range_is_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        cached(**settings)


@dataclass(frozen=True)
class Question:
    """All parts of a question, to be varied one at a time."""

    texts: dict[str, str]
    tenant: str
    policy: str
    identity: str
    served: str
    version: int
    history: History


WORDS = ("tea", "a", "cup", "fox", "é", '","', "]", "\u200b", "Tea", " ", "zorblax")
CHANNELS = ("prompt", "prompt_2", "negative_prompt", "negative_prompt_2", "style")


def text(chance: random.Random) -> str:
    return "x" + "".join(chance.choices(WORDS, k=chance.randint(0, 4)))


def turn(chance: random.Random) -> Turn:
    texts = {name: text(chance) for name in chance.sample(CHANNELS, chance.randint(0, 2))}
    at = NOW - timedelta(seconds=chance.randint(0, 300_000))
    action = chance.choice([None, *Action])
    return Turn(texts, at, action, chance.choice([0.0, 0.4, 1.0]), action is Action.BLOCK and chance.random() < 0.5)


def turns(chance: random.Random) -> tuple[Turn, ...]:
    return tuple(turn(chance) for _ in range(chance.randint(0, 3)))


def question(chance: random.Random) -> Question:
    texts = {name: text(chance) for name in chance.sample(CHANNELS[1:], chance.randint(0, 3))}
    counts = {name: chance.randint(0, 15) for name in ("total", "blocked", "flagged", "overturned", "clean_run")}
    return Question(
        {"prompt": text(chance), **texts},
        chance.choice("tu"),
        chance.choice("pq"),
        chance.choice("ij"),
        chance.choice("mn"),
        chance.randint(1, 2),
        History(turns(chance), turns(chance), turns(chance), **counts),
    )


def other_history(chance: random.Random, history: History) -> History:
    name = chance.choice(["turns", "riskiest", "kin", "total", "blocked", "flagged", "overturned", "clean_run"])
    value = getattr(history, name)
    if isinstance(value, int):
        return replace(history, **{name: value + chance.randint(1, 4)})  # type: ignore[arg-type]
    added = replace(turn(chance), action=chance.choice([None, Action.FLAG, Action.BLOCK]))
    if not value:
        return replace(history, **{name: (added,)})  # type: ignore[arg-type]
    changed = chance.choice(
        [
            (*value, added),
            value[:-1] + (replace(value[-1], action=Action.BLOCK, at=value[-1].at + timedelta(seconds=1)),),
            value[:-1] + (replace(value[-1], texts={**value[-1].texts, "prompt": "y"}),),
            value[:-1] + (replace(value[-1], overturned=not value[-1].overturned, risk=0.77),),
        ]
    )
    return replace(history, **{name: changed})


def other_texts(chance: random.Random, texts: dict[str, str]) -> dict[str, str]:
    name = chance.choice(list(texts))
    changed = [
        {**texts, name: texts[name] + chance.choice(WORDS)},
        {**texts, name: texts[name].upper() + "."},
        {**texts, "new": "x"},
    ]
    if name != "prompt":
        # The same text in another channel, and in none.
        rest = {key: value for key, value in texts.items() if key != name}
        changed += [rest, {**rest, "moved_" + name: texts[name]}]
    return chance.choice(changed)


def varied(chance: random.Random, one: Question) -> Question:
    part = chance.choice(["texts", "tenant", "policy", "identity", "served", "version", "history"])
    if part == "texts":
        return replace(one, texts=other_texts(chance, one.texts))
    if part == "history":
        return replace(one, history=other_history(chance, one.history))
    if part == "version":
        return replace(one, version=3 - one.version)
    return replace(one, **{part: getattr(one, part) + "'"})


class Asker:
    """Puts questions to screens that differ in what a question says, over one cache."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # Few entries: what comes back was asked just now.
        self.entries = MemoryEntries(ttl_s=60.0, size=5)
        self._patch = monkeypatch
        self._policies = {name: replace(sentinel_policy(), hash=name) for name in ("p", "q", "p'", "q'")}

    async def hits(self, asked: Question) -> bool:
        judge = FakeScreen()
        judge.identity, judge.served = asked.identity, asked.served
        judge.answer = lambda: clear(model=asked.served)
        self._patch.setattr(normalise, "NORMALISER_VERSION", asked.version, raising=False)
        screen = CachedScreen(judge, secret=b"secret", policy=self._policies[asked.policy], entries=self.entries)
        texts = dict(asked.texts)
        request = GenerationRequest(texts.pop("prompt"), Principal("p", tenant=asked.tenant), **known(texts))
        return await hits(screen, request, asked.history)


def known(texts: dict[str, str]) -> dict[str, Any]:
    extra = {name: value for name, value in texts.items() if name not in CHANNELS[:4]}
    return {name: value for name, value in texts.items() if name in CHANNELS[:4]} | {"extra_texts": extra}


async def test_no_question_is_answered_with_another_ones_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    chance, asker = random.Random(26), Asker(monkeypatch)
    wrong = missed = 0
    pairs = 0
    while pairs < 10_000:
        one = question(chance)
        await asker.hits(one)
        # Two variants may be the same, and then the second is no new question.
        for other in {repr(other): other for other in (varied(chance, one) for _ in range(4))}.values():
            wrong += await asker.hits(other)
            pairs += 1
        missed += not await asker.hits(one)
    assert (wrong, missed) == (0, 0)


async def test_a_guidance_that_turns_the_negative_prompt_around_is_another_question() -> None:
    asked = GenerationRequest("tea", TEA.principal, negative_prompt="cups")
    screen = cached()
    await hits(screen, asked)
    assert await hits(screen, replace(asked, guidance_scale=7.5))
    assert not await hits(screen, replace(asked, guidance_scale=0.5))
