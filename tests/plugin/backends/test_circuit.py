"""When a provider is left alone, and when it is asked again."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clocks import Clock
from safelight.backends.circuit import CircuitBreaker, CircuitState
from safelight.errors import ConfigError


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fail(breaker: CircuitBreaker, times: int = 1, *, at_once: bool = False) -> None:
    for _ in range(times):
        call = breaker.admit()
        assert call is not None
        with call:
            call.failed(at_once=at_once)


def succeed(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        call = breaker.admit()
        assert call is not None
        with call:
            call.succeeded()


def test_five_failures_in_thirty_seconds_open_it_for_thirty(clock: Clock) -> None:
    breaker = CircuitBreaker(clock=clock)
    fail(breaker, 4)
    clock.now += 30
    assert breaker.state is CircuitState.CLOSED
    fail(breaker)
    assert (breaker.state, breaker.retry_after_s, breaker.admit()) == (CircuitState.OPEN, 30.0, None)
    clock.now += 29.5
    assert (breaker.admits(), breaker.retry_after_s) == (False, 0.5)
    clock.now += 0.5
    assert (breaker.state, breaker.admits()) == (CircuitState.HALF_OPEN, True)


def test_failures_further_apart_open_nothing(clock: Clock) -> None:
    breaker = CircuitBreaker(clock=clock)
    for _ in range(50):
        fail(breaker)
        clock.now += 7.6
    assert breaker.state is CircuitState.CLOSED


def test_a_few_failures_among_many_successes_open_nothing(clock: Clock) -> None:
    breaker = CircuitBreaker(clock=clock)
    for _ in range(100):
        fail(breaker, 2)
        succeed(breaker, 8)
    assert breaker.state is CircuitState.CLOSED


def test_a_success_now_and_then_does_not_keep_a_failing_provider_in_use(clock: Clock) -> None:
    breaker = CircuitBreaker(clock=clock)
    fail(breaker, 4)
    succeed(breaker)
    fail(breaker, 2)
    assert breaker.state is CircuitState.OPEN


def test_half_open_lets_exactly_one_through_and_its_success_closes_it(clock: Clock) -> None:
    breaker = CircuitBreaker(clock=clock)
    fail(breaker, 5)
    clock.now += 30
    probe = breaker.admit()
    assert probe is not None
    assert (breaker.admit(), breaker.admits(), breaker.retry_after_s) == (None, False, 1.0)
    with probe:
        probe.succeeded()
    assert (breaker.state, breaker.retry_after_s) == (CircuitState.CLOSED, 0.0)
    fail(breaker, 4)
    assert breaker.state is CircuitState.CLOSED


def test_a_failed_probe_opens_it_for_as_long_again(clock: Clock) -> None:
    breaker = CircuitBreaker(clock=clock)
    fail(breaker, 5)
    clock.now += 31
    fail(breaker)
    assert (breaker.state, breaker.retry_after_s) == (CircuitState.OPEN, 30.0)


def test_one_failure_that_waiting_does_not_mend_opens_it_at_once(clock: Clock) -> None:
    breaker = CircuitBreaker(clock=clock)
    succeed(breaker, 3)
    fail(breaker, at_once=True)
    assert breaker.state is CircuitState.OPEN


async def test_a_cancelled_probe_gives_its_place_back(clock: Clock) -> None:
    breaker = CircuitBreaker(clock=clock)
    fail(breaker, 5)
    clock.now += 30

    async def probe() -> None:
        call = breaker.admit()
        assert call is not None
        with call:
            await asyncio.Event().wait()

    task = asyncio.ensure_future(probe())
    await asyncio.sleep(0)
    assert not breaker.admits()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (breaker.state, breaker.admits()) == (CircuitState.HALF_OPEN, True)


def test_a_probe_that_never_comes_back_is_not_waited_for_for_ever(clock: Clock) -> None:
    breaker = CircuitBreaker(clock=clock)
    fail(breaker, 5)
    clock.now += 30
    lost = breaker.admit()
    assert lost is not None
    clock.now += 30
    probe = breaker.admit()
    assert probe is not None
    with lost:
        lost.failed(at_once=True)
    assert breaker.admit() is None
    with probe:
        probe.succeeded()
    assert breaker.state is CircuitState.CLOSED


def test_a_call_that_says_nothing_counts_for_nothing(clock: Clock) -> None:
    breaker = CircuitBreaker(failures=1, clock=clock)
    call = breaker.admit()
    assert call is not None
    with call:
        pass
    assert breaker.state is CircuitState.CLOSED


@pytest.mark.parametrize("well", [True, False])
def test_what_was_asked_before_it_opened_changes_nothing_when_it_comes_back_late(clock: Clock, well: bool) -> None:
    breaker = CircuitBreaker(clock=clock)
    late = [breaker.admit() for _ in range(2)]
    fail(breaker, 5)
    clock.now += 10
    for call in late:
        assert call is not None
        with call:
            if well:
                call.succeeded()
            else:
                call.failed(at_once=True)
    assert (breaker.state, breaker.retry_after_s) == (CircuitState.OPEN, 20.0)


def test_what_was_asked_before_an_outage_says_nothing_after_it(clock: Clock) -> None:
    breaker = CircuitBreaker(clock=clock)
    late = breaker.admit()
    assert late is not None
    fail(breaker, 5)
    clock.now += 30
    succeed(breaker)
    with late:
        late.failed(at_once=True)
    assert breaker.state is CircuitState.CLOSED


def test_many_threads_get_one_probe_between_them(clock: Clock) -> None:
    breaker = CircuitBreaker(clock=clock)
    fail(breaker, 5)
    clock.now += 30
    let_through: list[object] = []
    start = threading.Barrier(16)

    def ask() -> None:
        start.wait()
        if (call := breaker.admit()) is not None:
            let_through.append(call)

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(let_through) == 1


@given(st.lists(st.tuples(st.sampled_from(["ok", "fail", "at once", "cancel"]), st.floats(0, 40)), max_size=60))
def test_it_never_wedges_and_lets_through_when_it_said_it_would(steps: list[tuple[str, float]]) -> None:
    clock = Clock()
    breaker = CircuitBreaker(clock=clock)
    for what, pause in steps:
        clock.now += pause
        wait = breaker.retry_after_s
        call = breaker.admit()
        assert (call is None) == (wait > 0)
        if call is None:
            assert 0 < wait <= 30
            continue
        with call:
            if what == "ok":
                call.succeeded()
            elif what != "cancel":
                call.failed(at_once=what == "at once")
        if breaker.state is CircuitState.OPEN:
            assert what in ("fail", "at once")
    clock.now += 60
    succeed(breaker)
    assert breaker.state is CircuitState.CLOSED


@pytest.mark.parametrize(
    "options",
    [{"failures": 0}, {"within_s": 0.0}, {"within_s": float("nan")}, {"open_s": -1.0}, {"open_s": float("inf")}],
)
def test_a_number_out_of_range_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        CircuitBreaker(**options)
