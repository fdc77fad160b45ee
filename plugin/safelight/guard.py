"""Conducts one request: reserve, screen the prompt, rule, generate, screen the pictures, rule, release.

Nothing here judges. The guard asks screens, hands their evidence to the policy, writes the ruling to the store, and
lets a picture out only if the store then says that it may leave.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from PIL import Image

from . import normalise
from .asking import ask_screen
from .backends.device_watch import DeviceWatch
from .course import course_risk
from .creation import Admission, Creation, Picture, Reservation, gravest
from .encoding import Encoded, encode_raw, sha256_hex, shows_nothing
from .errors import (
    ConfigError,
    ContentBlocked,
    CoolDown,
    GenerationFailed,
    SafelightError,
    ScreeningUnavailable,
)
from .generators import Generator, Progress
from .guard_settings import GuardSettings, Observer
from .policy import Action, Decision, Policy, Reason
from .request import MAX_PICTURES, GenerationRequest, History, Principal, Turn
from .screens import ImageScreen, PromptScreen
from .standing import Level, Standing
from .store import Store
from .verdict import Outcome, Stage, Verdict

if TYPE_CHECKING:
    from .enforcement import Enforcement

__all__ = ["Clock", "Encoder", "Guard", "GuardSettings", "Observer"]

logger = logging.getLogger("safelight")

Encoder = Callable[[Image.Image], Encoded]
Clock = Callable[[], datetime]
_T = TypeVar("_T")


class Guard:
    """Conducts requests through screens, policy and store. Safe for many requests at a time on one event loop.

    Args:
        policy: Rules on evidence.
        store: Remembers.
        prompt_screens: Asked in this order; the first block ends the asking. Put the quick and local ones first.
        image_screens: Each is asked about every picture.
        settings: Limits.
        clock: The current time, with time zone.
        enforcement: Counts attempts and turns principals away who made too many; None counts nothing.
        observers: Are told of every decision.

    Raises:
        ConfigError: If two screens of a stage share a name. A stage without screens is ruled unavailable, always.
    """

    def __init__(
        self,
        policy: Policy,
        store: Store,
        *,
        prompt_screens: Sequence[PromptScreen],
        image_screens: Sequence[ImageScreen],
        settings: GuardSettings | None = None,
        clock: Clock = lambda: datetime.now(UTC),
        enforcement: Enforcement | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        for stage, screens in (("prompt_screens", prompt_screens), ("image_screens", image_screens)):
            names = [screen.name for screen in screens]
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise ConfigError(f"{stage}: two screens share the name {twice!r}; give one of them another 'name'")
        self.policy = policy
        self.store = store
        self.prompt_screens = tuple(prompt_screens)
        self.image_screens = tuple(image_screens)
        self.settings = settings or GuardSettings()
        self.enforcement = enforcement
        self.devices = DeviceWatch()
        self._observers = tuple(observers)
        self._clock = clock

    def watch(self, observer: Observer) -> None:
        """Tell one more observer of every decision from now on."""
        self._observers += (observer,)

    async def create(
        self,
        request: GenerationRequest,
        generator: Generator,
        *,
        encode: Encoder = encode_raw,
        progress: Progress = lambda done, total: None,
    ) -> Creation:
        """Conduct a request from the prompt to pictures that may be delivered.

        Args:
            request: What is asked.
            generator: Makes the pictures; it is not called unless the prompt was allowed.
            encode: Makes of a picture the bytes that are delivered; the screens look at what those bytes show.
            progress: Called from the generator's thread with (steps done, steps in all).

        Raises:
            CoolDown: If too many of the principal's requests were blocked.
            ContentBlocked: If the prompt or every picture is blocked.
            ScreeningUnavailable: If a screen or the store failed.
            GenerationFailed: If the generator failed.
        """
        admission = await self.admit(request)
        stop = threading.Event()

        def report(done: int, total: int) -> None:
            # A thread cannot be cancelled from outside, so it is asked at every step.
            if stop.is_set():
                raise GenerationFailed("stopped: nobody waits for the pictures any more")
            progress(done, total)

        try:
            images = await asyncio.to_thread(_finished, lambda: generator.generate(request, report))
            if len(images) != request.n:
                raise GenerationFailed(f"the generator made {len(images)} pictures instead of {request.n}")
            encoded = await asyncio.to_thread(_finished, lambda: [encode(image) for image in images])
        except BaseException as error:
            # Whatever happened, a client that left included: the turn is closed, and what was asked stays in it.
            stop.set()
            await asyncio.shield(self._close(admission.decision.request_id))
            self.devices.note(error)
            if isinstance(error, SafelightError) or not isinstance(error, Exception):
                raise
            logger.error("generator %s failed: %s", generator.name, type(error).__name__)
            raise GenerationFailed("the generator failed") from error
        creation = Creation(admission, await self.inspect(admission, encoded))
        if creation.released:
            return creation
        blocked = [picture.decision for picture in creation.pictures if not picture.decision.is_fault]
        if not blocked:
            raise GenerationFailed("the generator made pictures that show nothing")
        raise ContentBlocked(gravest(blocked), left=creation.pictures[-1].left)

    async def admit(self, request: GenerationRequest) -> Admission:
        """Reserve a turn, screen the prompt with the person's history, rule, and record the ruling.

        Raises:
            CoolDown: If too many of the principal's requests were blocked; then nothing is judged.
            ContentBlocked: If the policy blocks the prompt.
            ScreeningUnavailable: If a screen or the store failed.
        """
        return await self.rule(await self.reserve(request))

    async def reserve(self, request: GenerationRequest) -> Reservation:
        """Put a request's turn into the store, so that a person's simultaneous requests see one another.

        Whoever reserves must go on with :meth:`rule`, or :meth:`abandon` it.

        Raises:
            CoolDown: If too many of the principal's requests were blocked.
            ScreeningUnavailable: If the store failed.
        """
        await self._turn_away(request.principal)
        request_id = "req_" + secrets.token_hex(16)
        history = await self._in_store(
            lambda: self.store.reserve(request_id, request, at=self._clock(), limit=self.settings.history_turns)
        )
        return Reservation(request, request_id, history)

    async def rule(self, reservation: Reservation, *, together: Collection[str] = ()) -> Admission:
        """Screen the prompt of a reserved request, rule, and record the ruling. Raises what :meth:`admit` does.

        Args:
            reservation: The request.
            together: The ids of requests that were made in one call with it. A limit that one of them reached turns
                the next call away, and not its own others; more than ``MAX_PICTURES`` at once are no such call.
        """
        request = reservation.request
        try:
            decision = await self.judge_prompt(request, reservation.history, request_id=reservation.request_id)
            left = await self._record(decision, request)
            self._raise_unless_allowed(decision, left)
            # Once more: of many requests at once, the others may have used the attempts up while this one was judged.
            await self._turn_away(request.principal, together)
        except ContentBlocked:
            raise
        except BaseException:
            await asyncio.shield(self._close(reservation.request_id))
            raise
        return Admission(request, decision, reservation.history, left)

    async def screen_inputs(self, reservation: Reservation, items: Sequence[Encoded]) -> tuple[Decision, ...]:
        """Screen the pictures that a reserved request brings along, rule on each, and record the rulings.

        Args:
            reservation: The request.
            items: Its input pictures, as the generator will see them.

        Returns:
            The rulings, all of which allow.

        Raises:
            ContentBlocked: If the policy blocks one of them.
            ScreeningUnavailable: If a screen or the store failed.
        """
        request = reservation.request
        try:
            decisions = await self.judge_images(items, request, reservation.history, request_id=reservation.request_id)
            left = [await self._record(decision, request) for decision in decisions]
            blocked = [decision for decision in decisions if not decision.allows and not decision.is_fault]
            if blocked:
                raise ContentBlocked(gravest(blocked), left=left[-1])
            for decision in decisions:
                self._raise_unless_allowed(decision)
        except ContentBlocked:
            raise
        except BaseException:
            await asyncio.shield(self._close(reservation.request_id))
            raise
        return tuple(decisions)

    async def preview(self, reservation: Reservation, items: Sequence[Encoded]) -> tuple[Decision | None, ...]:
        """Look at half-made pictures: return for each the recorded ruling that blocks it, or None.

        Nothing is released on the strength of a look that finds nothing, so that one is not recorded; nor is one that
        failed: the finished picture is screened in any case.
        """
        decisions = await self.judge_images(
            items, reservation.request, reservation.history, request_id=reservation.request_id
        )
        found = [
            decision if decision.action is Action.BLOCK and not decision.is_fault else None for decision in decisions
        ]
        for decision in found:
            if decision is not None:
                await self._record(decision, reservation.request)
        return tuple(found)

    async def judge_prompt(
        self, request: GenerationRequest, history: Sequence[Turn] = (), *, request_id: str = ""
    ) -> Decision:
        """Screen a prompt and rule on it. Nothing is recorded, so nothing can be released on the strength of it."""
        known = history if isinstance(history, History) else History(tuple(history))
        verdicts: list[Verdict] = []
        for screen in self.prompt_screens:
            if self._may_skip(screen.name, verdicts, request, known):
                verdicts.append(Verdict(screen.name, Stage.PROMPT, outcome=Outcome.SKIPPED, reason="cascade"))
                continue
            verdicts.append(await self._ask_about_prompt(screen, request, known))
            found = self._rule_on_prompt(request_id, verdicts)
            if found.action is Action.BLOCK and not found.is_fault:
                # No later screen could overturn it, and a judge that is not asked costs nothing.
                break
        # Without a screen there is no evidence, and the policy rules that as a failure.
        return self._rule_on_prompt(request_id, verdicts)

    async def inspect(self, admission: Admission, items: Sequence[Encoded]) -> tuple[Picture, ...]:
        """Screen what was made for an admitted request, rule on each picture alone, and release what may leave.

        Args:
            admission: The request, whose prompt was allowed.
            items: The bytes that would be delivered, each with the picture that they show.

        Returns:
            One entry a picture, in order; all of them may be withheld.

        Raises:
            ScreeningUnavailable: If a screen or the store failed; then none is released.
        """
        if not items:
            raise GenerationFailed("there is no picture to screen")
        try:
            decisions = await self.judge_images(
                items,
                admission.request,
                admission.history,
                request_id=admission.decision.request_id,
                generated=True,
            )
            left = [await self._record(decision, admission.request) for decision in decisions]
        except BaseException:
            await asyncio.shield(self._close(admission.decision.request_id))
            raise
        for decision in decisions:
            # A picture that failed by itself is withheld alone; where screening failed, nobody knows enough of any.
            if decision.is_fault and decision.reason is not Reason.GENERATION_FAILED:
                self._raise_unless_allowed(decision)
        if all(decision.reason is Reason.GENERATION_FAILED for decision in decisions):
            # As where the generator raised: what was asked stays in the turn, which is a fault and no clean one.
            await self._close(admission.decision.request_id)
        return tuple(
            [
                Picture(decision, await self._release(admission, decision, item) if decision.allows else None, attempts)
                for decision, item, attempts in zip(decisions, items, left, strict=True)
            ]
        )

    async def judge_images(
        self,
        items: Sequence[Encoded],
        request: GenerationRequest,
        history: Sequence[Turn] = (),
        *,
        request_id: str = "",
        generated: bool = False,
    ) -> list[Decision]:
        """Screen pictures and rule on each. Nothing is recorded, so nothing can be released on the strength of it.

        Args:
            items: The bytes that would be delivered, each with the picture that they show.
            request: What they were made for.
            history: The person's turns before it.
            request_id: The request they belong to.
            generated: Whether a generator of ours made them: one that shows nothing is then a fault of it.
        """
        shown = [item.image for item in items]
        by_screen = [await self._ask_about_images(screen, shown, request, history) for screen in self.image_screens]
        return [
            self._rule_on_image(
                request_id,
                place,
                item,
                [verdicts[place] for verdicts in by_screen],
                faulty=generated and shows_nothing(item.image),
            )
            for place, item in enumerate(items)
        ]

    async def abandon(self, given: Admission | Reservation) -> None:
        """Settle a request that ends without pictures, because its generation failed or was stopped."""
        await self._close(given.request_id if isinstance(given, Reservation) else given.decision.request_id)

    async def _release(self, admission: Admission, decision: Decision, item: Encoded) -> Encoded:
        """Return the picture if the store holds the proof that it may leave. The one way out."""
        digest = sha256_hex(item.data)
        proven = await self._in_store(
            lambda: self.store.is_releasable(admission.decision.request_id, digest, decision.policy)
        )
        if not proven:
            raise ScreeningUnavailable("the store holds no proof for this picture", decision)
        return item

    async def _ask_about_prompt(self, screen: PromptScreen, request: GenerationRequest, history: History) -> Verdict:
        found = await self._ask(screen.name, Stage.PROMPT, 1, lambda: _one(screen.screen_prompt(request, history)))
        return found[0]

    async def _ask_about_images(
        self,
        screen: ImageScreen,
        images: Sequence[Image.Image],
        request: GenerationRequest,
        history: Sequence[Turn],
    ) -> Sequence[Verdict]:
        # A copy for each screen: one that draws on a picture must change neither the next one's nor the delivered.
        return await self._ask(
            screen.name,
            Stage.IMAGE,
            len(images),
            lambda: screen.screen_images([image.copy() for image in images], request, history),
        )

    async def _ask(
        self, name: str, stage: Stage, count: int, ask: Callable[[], Awaitable[Sequence[Verdict]]]
    ) -> Sequence[Verdict]:
        limit_s = self.settings.screen_deadline_s
        return await ask_screen(name, stage, count, ask, deadline_s=limit_s, devices=self.devices)

    def _may_skip(self, name: str, verdicts: Sequence[Verdict], request: GenerationRequest, history: History) -> bool:
        """Return whether the cascade spares a screen: by the policy's word, for a quiet course and an open text."""
        if not self.policy.may_skip(name, verdicts, [screen.name for screen in self.prompt_screens]):
            return False
        if any(normalise.evident(found) for found in request.views.values()):
            # Somebody hides something. What local screens make of it is not sure, whatever they say.
            return False
        risk = course_risk(history, rule=self.policy.course, now=self._clock())
        return risk < self.policy.cascade.quiet_below

    async def _turn_away(self, principal: Principal, together: Collection[str] = ()) -> None:
        """Raise CoolDown where the principal has no attempts left. Before anything is stored or judged."""
        enforcement = self.enforcement
        if enforcement is None:
            return
        try:
            await self._in_store(lambda: enforcement.check(principal))
        except CoolDown as error:
            # A hold waits for a person, and turns everything away.
            paused = error.until is not None and len(together) <= MAX_PICTURES
            if paused and await self._came_of(error.decision_id, together):
                return
            for observer in self._observers:
                observer.observe(error)
            raise

    async def _came_of(self, decision_id: str, request_ids: Collection[str]) -> bool:
        """Return whether a decision was made in one of these requests."""
        for request_id in request_ids:
            decisions = await self._in_store(partial(self.store.decisions, request_id=request_id))
            if any(decision.id == decision_id for decision in decisions):
                return True
        return False

    def _rule_on_prompt(self, request_id: str, verdicts: Sequence[Verdict]) -> Decision:
        return self.policy.decide(
            verdicts,
            id=_decision_id(),
            request_id=request_id,
            stage=Stage.PROMPT,
            created=self._clock(),
            expected=[screen.name for screen in self.prompt_screens],
        )

    def _rule_on_image(
        self, request_id: str, place: int, item: Encoded, verdicts: Sequence[Verdict], *, faulty: bool
    ) -> Decision:
        return self.policy.decide(
            verdicts,
            id=_decision_id(),
            request_id=request_id,
            stage=Stage.IMAGE,
            created=self._clock(),
            expected=[screen.name for screen in self.image_screens],
            index=place,
            image_sha256=sha256_hex(item.data),
            faulty=faulty,
        )

    async def _record(self, decision: Decision, request: GenerationRequest) -> int | None:
        """Write a ruling down, count it where it is an attempt, and return how many attempts are left, if few."""
        enforcement = self.enforcement

        def write() -> Standing | None:
            # In one go, which no client that leaves can cut in two.
            self.store.record(decision)
            return enforcement.note(request, decision) if enforcement is not None else None

        standing = await self._in_store(write)
        for observer in self._observers:
            observer.observe(decision)
        if decision.reason is Reason.RESTRICTED:
            logger.critical(
                "restricted decision %s is held; it needs %s",
                decision.id,
                self.settings.alert_contact or "a trained person, and none is configured (alert_contact)",
            )
        return standing.left if standing is not None and standing.level is not Level.CLEAR else None

    async def _close(self, request_id: str) -> None:
        """Settle the turn of a request that ends without a ruling of its own."""
        try:
            await self._in_store(lambda: self.store.settle(request_id, None))
        except ScreeningUnavailable:
            # Already on the way to an error; a turn that stays as it was releases nothing.
            logger.error("the store did not take how request %s ended", request_id)

    async def _in_store(self, work: Callable[[], _T]) -> _T:
        return await asyncio.to_thread(work)

    @staticmethod
    def _raise_unless_allowed(decision: Decision, left: int | None = None) -> None:
        if decision.is_fault:
            passed = (Outcome.OK, Outcome.SKIPPED)
            failed = [verdict for verdict in decision.verdicts if verdict.outcome not in passed]
            names = ", ".join(f"{verdict.screen} ({verdict.outcome})" for verdict in failed)
            raise ScreeningUnavailable(f"screening is not possible now: {names or 'a screen did not answer'}", decision)
        if not decision.allows:
            raise ContentBlocked(decision, left=left)


def _finished(work: Callable[[], _T]) -> _T:
    try:
        return work()
    except StopIteration as error:
        # No future can carry it: whoever waits for this thread would wait for ever.
        raise RuntimeError("StopIteration") from error


async def _one(verdict: Awaitable[Verdict]) -> Sequence[Verdict]:
    return [await verdict]


def _decision_id() -> str:
    return "dec_" + secrets.token_hex(16)
