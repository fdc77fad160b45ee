"""Two blocks that guard a modular diffusers pipeline: one rules on what goes in, the other on what comes out.

The prompt block goes in front of all other blocks, the image block behind them::

    blocks = StableDiffusionXLAutoBlocks()
    blocks.sub_blocks.insert("prompt_guard", PromptGuardBlock(guard), 0)
    blocks.sub_blocks.insert("image_guard", ImageGuardBlock(), len(blocks.sub_blocks))
    pipe = blocks.init_pipeline()

Neither works without the other: the prompt block refuses to begin where no image block is the last one, and the image
block lets nothing out of a call that no prompt block has begun.

What is covered: every value in the pipeline's state when the prompt block runs, which is all that a caller can hand
over; the LoRAs and learned tokens of its components; everything that is left in the state when the image block is done.
What is not covered: what the blocks between bring along by themselves, but for texts that they change; calls from two
threads at a time, which diffusers' modular pipelines do not stand either; ``ModularPipeline.from_pretrained`` of what
was saved, since diffusers saves no block that was inserted: load with ``blocks.init_pipeline(folder)``, as above.
"""

from __future__ import annotations

import copy
import logging
import sys
from collections.abc import Collection, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from .blocking import BlockingGuard
from .creation import gravest
from .dropin.call_request import request_for
from .dropin.carried import carried_texts, check_adapters
from .dropin.channels import Call, read_call
from .dropin.choices import OnBlock
from .dropin.modular_admission import Admitted, abandon, admit
from .dropin.outputs import Ruled, answer, black
from .errors import (
    ConfigError,
    ContentBlocked,
    InvalidRequest,
    MissingExtra,
    SafelightError,
    UnjudgedChannel,
    UnscreenedPipeline,
)
from .guard import Guard
from .pipeline import default_guard
from .quiet import hush
from .request import GenerationRequest, Principal

try:
    from diffusers import ModularPipelineBlocks, SequentialPipelineBlocks
    from diffusers.modular_pipelines.modular_pipeline_utils import InputParam, OutputParam
except ImportError as error:
    raise MissingExtra("diffusers", "models", needed_by="safelight.modular") from error

ADMITTED = "safelight_admitted"
"""Under this name the prompt block leaves in the state what the image block needs. It is of use to nobody else."""


class PromptGuardBlock(ModularPipelineBlocks):  # type: ignore[misc]
    """The first block of a guarded modular pipeline: judges every text and every picture that a call hands over.

    Blocked prompts of a list are left out, and the image block puts black pictures at their places. Where every prompt
    is blocked, or any and ``ImageGuardBlock(on_block="raise")`` is used, ``ContentBlocked`` is raised before any other
    block runs. What no screen can read is refused.

    Args:
        guard: What screens; by default the one that ``safelight.toml`` and ``SAFELIGHT_*`` describe.
        principal: Who the pictures are made for, by default one local user. A call may name another, as you have
            authenticated them: ``pipe(prompt=..., principal="alice")``.
        allow: What may go in without anybody reading it: ``embeddings`` (then only the pictures are screened),
            ``latents``.

    Raises:
        ConfigError: If an argument or the configuration is wrong.
    """

    def __init__(
        self, guard: Guard | None = None, *, principal: Principal | None = None, allow: Collection[str] = ()
    ) -> None:
        super().__init__()
        self._allow = frozenset([allow] if isinstance(allow, str) else allow)
        if unknown := self._allow - {"embeddings", "latents"}:
            raise ConfigError(f"allow: must be 'embeddings' or 'latents', not {min(unknown)!r}")
        self._principal = principal or Principal("local")
        self._guard = BlockingGuard(guard or default_guard())

    def __deepcopy__(self, memo: dict[int, Any]) -> PromptGuardBlock:
        # init_pipeline() copies its blocks; a copy asks the same judges and writes into the same store.
        return copy.copy(self)

    @property
    def description(self) -> str:
        """What the block does."""
        return "Judges every text and every picture that is handed over, before anything else runs."

    @property
    def inputs(self) -> list[Any]:
        """The prompt, and who asks. It rules on whatever else the other blocks take, without a list of its own."""
        return [
            InputParam("prompt", description="What the pictures show: a text, or a list of them."),
            InputParam("principal", description="Who asks: a name, or a safelight.Principal."),
        ]

    @property
    def intermediate_outputs(self) -> list[Any]:
        """What the image block needs."""
        return [OutputParam(ADMITTED, description="For the image block.")]

    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        """Leave in the state only what was ruled on, of the admitted prompts.

        Raises:
            UnscreenedPipeline: If no image block is the pipeline's last one.
            UnjudgedChannel: If a value cannot be judged; it is named.
            ContentBlocked: If every prompt is blocked.
            ScreeningUnavailable: If a screen or the store failed.
        """
        # A copy, so it is asked for once.
        blocks = getattr(components, "blocks", None)
        end = _last_of(blocks)
        if not isinstance(end, ImageGuardBlock):
            raise UnscreenedPipeline("nobody would look at the pictures; make ImageGuardBlock() the last block")
        _hush(components, blocks)
        given = _handed_over(state.values)
        call = _read(given, self._allow, components)
        requests = self._requests(components, call, given.get("principal"))
        shown = [[picture for own in pictures.values() for picture in own] for pictures in call.pictures]
        rulings = admit(self._guard, requests, shown)
        blocked = [ruling for ruling in rulings if isinstance(ruling, ContentBlocked)]
        if blocked and (end.on_block == "raise" or len(blocked) == len(rulings)):
            abandon(self._guard, rulings)
            worst = gravest([item.decision for item in blocked])
            raise next(item for item in blocked if item.decision is worst)
        admitted = Admitted(self._guard, call, rulings, given, state)
        passed = {**dict.fromkeys(state.values), **admitted.arguments, "output_type": call.output_type}
        # All anew: what was not ruled on does not go on.
        state.values.clear()
        state.values.update(passed)
        state.set(ADMITTED, admitted)
        return components, state

    def _requests(self, components: Any, call: Call, speaker: str | Principal | None) -> list[GenerationRequest]:
        principal = self._principal if speaker is None else speaker
        if isinstance(principal, str):
            principal = Principal(principal, tenant=self._principal.tenant)
        if not isinstance(principal, Principal):
            raise InvalidRequest("principal", "must be a name or a safelight.Principal")
        found = []
        for texts in call.texts:
            check_adapters(components, texts, self._guard.guard.policy)
            found.append(request_for({**texts, **carried_texts(components, texts)}, principal, call.arguments))
        return found


class ImageGuardBlock(ModularPipelineBlocks):  # type: ignore[misc]
    """The last block of a guarded modular pipeline: has every picture ruled on, and withholds the blocked ones.

    It leaves ``images`` in the form that was asked for, ``nsfw_content_detected``, a list of bool, and ``decisions``,
    the rulings by picture. Beside these the state keeps what the caller handed over and nothing else: the latents of a
    blocked picture would be that picture.

    Args:
        on_block: ``black`` puts a black picture at a blocked one's place; ``blur`` 8 x 8 colours of it, where it was
            made at all and is not of the gravest category; ``raise`` raises ``ContentBlocked`` if any is blocked.

    Raises:
        ConfigError: If ``on_block`` is none of these.
    """

    def __init__(self, on_block: OnBlock = "black") -> None:
        super().__init__()
        if on_block not in ("black", "raise", "blur"):
            raise ConfigError(f"on_block: must be 'black', 'raise' or 'blur', not {on_block!r}")
        self.on_block = on_block

    @property
    def description(self) -> str:
        """What the block does."""
        return "Has every picture ruled on, and withholds the blocked ones."

    @property
    def inputs(self) -> list[Any]:
        """The pictures, and what the prompt block left."""
        return [InputParam("images", description="The pictures."), InputParam(ADMITTED)]

    @property
    def intermediate_outputs(self) -> list[Any]:
        """The pictures that may be shown, and what was ruled."""
        return [
            OutputParam("images", type_hint=list, description="The pictures; withheld ones are black or blurred."),
            OutputParam("nsfw_content_detected", type_hint=list, description="Which of them were blocked."),
            OutputParam("decisions", type_hint=tuple, description="The rulings, by picture."),
        ]

    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        """Leave in the state only what may be shown.

        Raises:
            UnscreenedPipeline: If no prompt block began this call, or its texts were changed since.
            ContentBlocked: If a picture is blocked, and that is to be raised.
            GenerationFailed: If the blocks before made no pictures, or none that shows something.
            ScreeningUnavailable: If a screen or the store failed.
        """
        values = dict(state.values)
        # Whatever fails from here on, nothing can be read from the state.
        state.values.clear()
        admitted = values.get(ADMITTED)
        if not isinstance(admitted, Admitted) or not admitted.take(state):
            raise UnscreenedPipeline("nobody judged this call's prompt; make PromptGuardBlock(guard) the first block")
        try:
            admitted.check_texts(values)
            ruled, form = admitted.inspect(values.get("images"))
        except BaseException:
            admitted.abandon()
            raise
        released = _released(ruled, form, self.on_block)
        state.values.update(admitted.given)
        state.values.update(released)
        return components, state


def _released(ruled: list[Ruled], form: str, on_block: OnBlock) -> dict[str, Any]:
    """Return what the image block leaves in the state, by name."""
    blocked = [item.decision for item in ruled if not item.decision.allows and not item.decision.is_fault]
    if blocked and on_block == "raise":
        raise ContentBlocked(gravest(blocked))
    known = next(item.image for item in ruled if item.image is not None)
    left = SimpleNamespace()
    answer(left, ruled, [], blank=black(known), output_type=form, on_block=on_block)
    return vars(left)


def _read(given: Mapping[str, Any], allow: Collection[str], components: Any) -> Call:
    handed = {name: value for name, value in given.items() if name != "principal"}
    call = read_call(handed, allow=allow, pipe=components)
    if call.output_type == "latent":
        raise UnjudgedChannel("output_type", "latents cannot be looked at; use 'pil', 'np' or 'pt'")
    if call.callback is not None:
        raise UnjudgedChannel("callback_on_step_end", "would be handed what nobody has judged; leave it out")
    return call


def _handed_over(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state's values; where the state of an earlier call is used again, without what that one released."""
    again = values.get("decisions") is not None
    outputs = ("images", "nsfw_content_detected", "decisions") if again else ()
    return {name: value for name, value in values.items() if name not in outputs}


def _last_of(block: Any) -> Any:
    """Return the block that runs last, inside of blocks that run one after another; None where there is none."""
    while isinstance(block, SequentialPipelineBlocks):
        block = next(reversed(block.sub_blocks.values()), None)
    return block


def _hush(components: Any, blocks: Any) -> None:
    hush(components)
    for block in _inside(blocks):
        # The block of a text encoder quotes the end of a prompt that is too long for it.
        hush(block)
    # diffusers writes whatever a block raises as an error of its own, and a refusal is none.
    logging.getLogger(ModularPipelineBlocks.__module__).addFilter(_is_no_refusal)


def _inside(block: Any) -> Iterator[Any]:
    yield block
    for inner in block.sub_blocks.values():
        yield from _inside(inner)


def _is_no_refusal(record: logging.LogRecord) -> bool:
    return not isinstance(sys.exception(), SafelightError)
