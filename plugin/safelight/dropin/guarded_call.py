"""One call of a guarded pipeline, from its arguments to the output that may be returned.

Every argument is ruled on, every prompt and every input picture is judged, the pipeline runs beside the prompts'
judges, and every picture is looked at. Whatever fails on the way ends the call and settles its turns.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from ..blocking import BlockingGuard
from ..creation import Admission, gravest
from ..encoding import encode_raw
from ..errors import ContentBlocked, GenerationFailed, InvalidRequest
from ..policy import Decision, Reason
from ..request import GenerationRequest, Principal
from ..verdict import Stage
from . import seals
from .beside import Awaited, Beside, Stopped
from .call_request import request_for
from .carried import carried_texts, check_adapters
from .channels import Call, read_call
from .options import Options
from .outputs import (
    Ruled,
    answer,
    as_tuple,
    black,
    blank,
    empty_output,
    made_like,
    no_latents,
    only_ours,
    own_flags,
    spread_rows,
)
from .plain_run import calls_back, can_be_stopped, generators_of, is_diffusers_own, left_as_it_was, size_of
from .refused_latents import refused_places
from .ruled_pictures import ruled_pictures
from .safety_guidance import check_step, steered
from .sealed import SealedTensor
from .step_end import StepEnd, hand_open, hand_sealed


def guarded_call(
    pipe: Any,
    cls: type[Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    guard: BlockingGuard,
    principal: Principal,
    options: Options,
) -> Any:
    """Call a pipeline, and return what it would have returned, with withheld pictures replaced.

    Args:
        pipe: The guarded pipeline, whose models are sealed.
        cls: Its plain class.
        args: The arguments by position, as the caller gave them.
        kwargs: The arguments by name.
        guard: What screens.
        principal: Who asks.
        options: How the pipeline is guarded.
    """
    named = _by_name(cls, pipe, args, kwargs)
    call = read_call(named, allow=options.allow, pipe=pipe)
    refused = refused_places(named, len(call.texts))
    try:
        return _GuardedCall(pipe, cls, call, guard, principal, options).conduct(refused)
    except ContentBlocked as error:
        blocked = error
    # Without the frames it came through: they hold what was blocked, and an error may be kept, or reported with them.
    raise blocked.with_traceback(None)


def _by_name(cls: type[Any], pipe: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    signature = inspect.signature(cls.__call__)
    bound = dict(signature.bind(pipe, *args, **kwargs).arguments)
    bound.pop("self", None)
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            bound |= bound.pop(name, {})
    return bound


class _GuardedCall:
    """The conduct of one call: its prompts by place, those still awaited, and what was ruled on the others."""

    def __init__(
        self, pipe: Any, cls: type[Any], call: Call, guard: BlockingGuard, principal: Principal, options: Options
    ) -> None:
        self._pipe = pipe
        self._cls = cls
        self._call = call
        self._guard = guard
        self._principal = principal
        self._options = options
        self._awaited: dict[int, Awaited] = {}
        self._ruled: dict[int, tuple[Ruled, ...]] = {}
        self._previewed: dict[tuple[int, int], Decision] = {}

    def conduct(self, refused: Mapping[int, Decision]) -> Any:
        """Run the call. Nothing leaves, and no turn stays open, if any part of it fails.

        Args:
            refused: The prompts that were refused in another call, and the rulings.
        """
        # Before anybody is asked: what the pipeline would refuse is no turn of anybody's.
        self._arguments(range(len(self._call.texts)))
        for place, decision in refused.items():
            self._refuse(place, ContentBlocked(decision))
        try:
            self._begin(self._requests())
            output, made = self._run()
            return self._answer(output, made)
        except BaseException:
            for item in self._awaited.values():
                item.abandon(self._guard)
            # What was raised is held by one of these, and holds this frame.
            self._awaited.clear()
            raise

    def _requests(self) -> dict[int, GenerationRequest]:
        found: dict[int, GenerationRequest] = {}
        for place, texts in enumerate(self._call.texts):
            if place not in self._ruled:
                check_adapters(self._pipe, texts, self._guard.guard.policy)
                carried = carried_texts(self._pipe, texts)
                found[place] = request_for({**texts, **carried}, self._principal, self._call.arguments)
        return found

    def _begin(self, requests: Mapping[int, GenerationRequest]) -> None:
        """Reserve the turns in order, ask the prompts' judges, and wait for what is to be known before the run."""
        for place, request in requests.items():
            self._awaited[place] = Awaited(self._guard.reserve(request))
        judges = self._guard.guard
        together = [item.reservation.request_id for item in self._awaited.values()]
        for item in self._awaited.values():
            item.ruling = self._guard.start(judges.rule(item.reservation, together=together))
        inputs = {
            place: self._guard.start(
                judges.screen_inputs(
                    self._awaited[place].reservation,
                    [encode_raw(picture) for given in pictures.values() for picture in given],
                )
            )
            for place, pictures in enumerate(self._call.pictures)
            if place in self._awaited and any(pictures.values())
        }
        try:
            for place, looked in inputs.items():
                failure = looked.exception()
                if isinstance(failure, ContentBlocked):
                    self._withhold(place, failure)
                elif failure is not None:
                    raise failure
        finally:
            # Of a call that ends here nobody needs to know the rest.
            for looked in inputs.values():
                looked.cancel()
        if self._options.screening == "before" or not can_be_stopped(self._pipe, self._cls):
            # Where nothing can be stopped between the steps and the pixels, the judges go first.
            self._settle()

    def _settle(self) -> list[int]:
        """Wait for the rulings of all prompts that are left; return the places of the admitted."""
        for place, item in list(self._awaited.items()):
            failure = item.outcome()
            if isinstance(failure, ContentBlocked):
                self._withhold(place, failure)
            elif failure is not None:
                raise failure
        return list(self._awaited)

    def _withhold(self, place: int, blocked: ContentBlocked) -> None:
        item = self._awaited.pop(place)
        if item.ruling is not None:
            item.ruling.cancel()
        self._refuse(place, blocked)

    def _refuse(self, place: int, blocked: ContentBlocked) -> None:
        if self._options.on_block == "raise":
            raise blocked
        self._ruled[place] = (Ruled(blocked.decision),) * self._call.pictures_each

    def _run(self) -> tuple[Any, list[int]]:
        """Run the pipeline for the prompts that are left; return its output and the places that it was run for.

        A run that is stopped because nothing of it may be shown returns None. One that had to be stopped because the
        pipeline does not tell its pictures apart while it makes them runs again, without what is blocked.
        """
        generators = generators_of(self._call.arguments.get("generator"))
        states = [generator.get_state() for generator in generators]
        looks = self._options.previews is not None
        waiting = self._beside(looks=False)
        # What is blocked while other threads are at work need not wait for its turn.
        with seals.lock_of(self._pipe, vain=waiting.is_vain) as has_turn:
            while has_turn and (places := list(self._awaited)):
                beside = self._beside(looks=looks)
                output = None
                try:
                    output = self._run_once(places, beside)
                    beside.wait()
                except Stopped:
                    # Not raised from here: the error would keep the tensors of the stopped run alive.
                    output = None
                finally:
                    beside.close()
                    # What a look has blocked stays blocked, in the picture that a second run makes as well.
                    self._previewed |= beside.previewed
                if output is not None:
                    return output, places
                self._stopped(beside)
                # A second run must not be stopped by a look: it ends with the pictures that the screens rule on.
                looks = False
                for generator, state in zip(generators, states, strict=True):
                    generator.set_state(state)
        if not has_turn:
            self._stopped(waiting)
        return None, []

    def _beside(self, *, looks: bool) -> Beside:
        call, previews = self._call, self._options.previews
        look = None
        if looks and previews is not None:
            from .previewing import PreviewLook

            size = call.arguments.get("height"), call.arguments.get("width")
            look = PreviewLook(self._pipe, previews, self._guard, self._awaited, each=call.pictures_each, size=size)
        at_once = self._options.on_block == "raise"
        return Beside(self._awaited, each=call.pictures_each, stop_at_once=at_once, look=look)

    def _stopped(self, beside: Beside) -> None:
        """Withhold what a stopped run was stopped for. The prompts that are left may run again."""
        for item in self._awaited.values():
            failure = item.failure()
            if failure is not None and (self._options.on_block == "raise" or not isinstance(failure, ContentBlocked)):
                raise failure
        for place in self._settle():
            found = [beside.previewed.get((place, number)) for number in range(self._call.pictures_each)]
            blocked = [decision for decision in found if decision is not None]
            if len(blocked) == len(found):
                self._withhold(place, ContentBlocked(gravest(blocked)))

    def _arguments(self, places: Sequence[int]) -> dict[str, Any]:
        """Return what the pipeline is called with for these prompts, but for what is ours.

        Raises:
            InvalidRequest: If the pipeline or its options have no use for an argument.
        """
        call, options = self._call, self._options
        arguments = call.arguments_for(places)
        if call.callback is not None and not calls_back(self._pipe, self._cls):
            raise InvalidRequest("callback_on_step_end", f"{self._cls.__name__} has no such callback; leave it out")
        if options.guidance is None:
            return arguments
        return steered(
            arguments,
            parameters=inspect.signature(self._cls.__call__).parameters,
            concepts=self._guard.guard.policy.guidance.text,
            count=len(places) if call.batched else None,
        )

    def _run_once(self, places: Sequence[int], beside: Beside) -> Any:
        call, options = self._call, self._options
        arguments = self._arguments(places)
        if calls_back(self._pipe, self._cls):
            trusted = "callbacks" in options.allow or is_diffusers_own(call.callback)
            step_end = StepEnd(
                beside,
                call.callback,
                call.callback_tensors,
                hand_open if trusted else hand_sealed,
                origins=[call.texts[place] for place in places],
                check=check_step if options.guidance is not None else None,
            )
            arguments |= {
                "callback_on_step_end": step_end,
                "callback_on_step_end_tensor_inputs": step_end.tensor_inputs,
            }
        # NumPy even where PIL is asked: a picture of NaN must be told from a black one.
        form = "np" if call.output_type == "pil" else call.output_type
        if call.output_type == "pil" and arguments.get("padding_mask_crop") is not None:
            # Diffusers pastes what it made into the input picture, and knows only PIL's way to.
            form = "pil"
        # A model may have been exchanged since the last call.
        seals.seal(self._pipe)
        with seals.running(self._pipe, beside), left_as_it_was(self._pipe):
            return self._cls.__call__(self._pipe, **arguments, output_type=form, return_dict=True)

    def _answer(self, output: Any, places: Sequence[int]) -> Any:
        self._settle()
        admitted = {place: item.ruling.result() for place, item in self._awaited.items() if item.ruling is not None}
        made = output
        output = output if output is not None else empty_output(self._cls)
        if self._call.output_type == "latent":
            self._latents(output, made, places, admitted)
        else:
            self._pictures(output, made, places, admitted)
        return output if self._call.return_dict else as_tuple(output)

    def _pictures(self, output: Any, made: Any, places: Sequence[int], admitted: Mapping[int, Admission]) -> None:
        """Have the pictures ruled on, and fill the output with those that may leave."""
        call = self._call
        if made is not None:
            self._ruled |= ruled_pictures(
                made,
                places,
                admitted,
                each=call.pictures_each,
                output_type=call.output_type,
                previewed=self._previewed,
                guard=self._guard,
            )
            # A model's own checker blackens what it finds: that is no fault.
            self._raise_where_nothing_is_left(flagged=any(own_flags(made, len(places) * call.pictures_each)))
        ruled = self._in_order()
        known = next((item.image for item in ruled if item.image is not None), None)
        each = call.pictures_each
        answer(
            output,
            ruled,
            [place * each + number for place in places for number in range(each)] if made is not None else [],
            blank=black(known) if known is not None else self._blank(),
            output_type=call.output_type,
            on_block=self._options.on_block,
        )

    def _latents(self, output: Any, made: Any, places: Sequence[int], admitted: Mapping[int, Admission]) -> None:
        """Fill the output with sealed latents, all zero for every prompt that was blocked. Nobody looks at them."""
        each, count = self._call.pictures_each, len(self._call.texts)
        for place, admission in admitted.items():
            found = (self._previewed.get((place, number)) for number in range(each))
            self._ruled[place] = tuple(Ruled(decision or admission.decision) for decision in found)
        if made is None:
            latents = no_latents(self._pipe, self._size(), count * each)
        else:
            latents = spread_rows(made.images, places, admitted, each=each, count=count)
            latents[[place * each + number for place, number in self._previewed]] = 0
        ruled = [item.decision for item in self._in_order()]
        refusals = [decision for decision in ruled[::each] if not decision.allows]
        only_ours(output)
        output.images = SealedTensor(latents, [self._call.texts[place] for place in admitted], refusals)
        output.nsfw_content_detected = [not decision.allows for decision in ruled]
        output.decisions = tuple(ruled)

    def _in_order(self) -> list[Ruled]:
        return [item for place in range(len(self._call.texts)) for item in self._ruled[place]]

    def _raise_where_nothing_is_left(self, *, flagged: bool) -> None:
        ruled = [item.decision for items in self._ruled.values() for item in items]
        pictures = [decision for decision in ruled if decision.stage is Stage.IMAGE]
        failed = bool(pictures) and all(decision.reason is Reason.GENERATION_FAILED for decision in pictures)
        if failed and not flagged:
            raise GenerationFailed("the pipeline made pictures that show nothing")
        blocked = [decision for decision in ruled if not decision.allows and not decision.is_fault]
        if blocked and self._options.on_block == "raise":
            # Every turn has its ruling: none is to be settled as a fault.
            self._awaited.clear()
            raise ContentBlocked(gravest(blocked))

    def _blank(self) -> Any:
        dtype, device = made_like(self._pipe, decoded=True)
        return blank(self._size(), self._call.output_type, dtype=dtype, device=device)

    def _size(self) -> tuple[int, int]:
        return size_of(self._pipe, self._cls, self._call)
