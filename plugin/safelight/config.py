"""From settings to a guard, a generator and a store: everything that was configured, loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .canary import Canaries, Trusted, canary_policy
from .coverage import forbidden, unscored
from .enforcement import Enforcement
from .errors import ConfigError
from .generators import GENERATORS, Generator
from .guard import Clock, Guard
from .loading import construct, load_class
from .policy import Action, Policy
from .screens import IMAGE_SCREENS, PROMPT_SCREENS, ImageScreen, PromptScreen
from .screens.blocked_before import BlockedBefore
from .screens.llm_judge import LLMJudge
from .settings import (
    CanarySettings,
    GatewaySettings,
    Part,
    Settings,
    SpendingSettings,
    UISettings,
    read_settings,
)
from .spending import Spending
from .store import Store, open_store
from .store.blocked_prompts import BlockedPrompts
from .store.calls import Calls
from .store.strikes import Strikes
from .verdict_cache import CachedScreen

__all__ = [
    "CanarySettings",
    "GatewaySettings",
    "Part",
    "Runtime",
    "Settings",
    "SpendingSettings",
    "UISettings",
    "build",
    "build_guard",
    "enforcement_of",
    "read_settings",
]

_REAL_MODEL = (
    'a real generator needs a GPU: [generator] use = "diffusers", model = "stabilityai/stable-diffusion-xl-base-1.0"'
)
_HARMLESS = "safelight --config harmless demo: a policy that forbids teapots, and nothing else"
_VLM = (
    'no vision-language model looks at pictures yet: [[image_screens]] use = "vlm_judge" (InternVL3-8B, a GPU), '
    'or use = "vlm_api_judge" with api_base, or with a Gemini model and answers = "json"'
)


@dataclass(frozen=True, slots=True)
class Runtime:
    """What the doors work with: everything that was configured, loaded."""

    settings: Settings
    guard: Guard
    generator: Generator
    store: Store

    @property
    def canaries(self) -> tuple[Canaries, ...]:
        """What a server has to run beside its requests: see ``canary.watching``."""
        return tuple(screen.canaries for screen in self.guard.prompt_screens if isinstance(screen, Trusted))

    @property
    def problems(self) -> tuple[str, ...]:
        """Why screens are not to be relied on now, as short codes; empty where nothing is known to be amiss.

        ``device_lost`` means that this process has to be started again.
        """
        screens = (*self.guard.prompt_screens, *self.guard.image_screens)
        found = [code for screen in screens for code in getattr(screen, "problems", ())]
        return tuple(dict.fromkeys(found + ["device_lost"] * self.guard.devices.lost))

    @property
    def retry_after_s(self) -> float:
        """Seconds until a screen that is not asked now, since its provider failed, will be again; else 0."""
        screens = (*self.guard.prompt_screens, *self.guard.image_screens)
        return max((float(getattr(screen, "retry_after_s", 0.0)) for screen in screens), default=0.0)

    def describe(self) -> list[str]:
        """Return what runs, one line each, for a person who starts it."""
        lines = [
            f"configuration   {self.settings.source}",
            f"generator       {self.generator.name}: {self.generator.note}",
            f"prompt screens  {', '.join(screen.name for screen in self.guard.prompt_screens)}",
            f"image screens   {', '.join(screen.name for screen in self.guard.image_screens)}",
            f"policy          {self.guard.policy.name} ({self.guard.policy.hash[:15]})",
            # A database's address may hold a password.
            f"store           {re.sub('//[^/]*@', '//…@', self.settings.store_url.split('?')[0])}",
        ]
        if self.settings.spending.usd_per_day is not None:
            lines.append(f"spending limit  {self.settings.spending.usd_per_day:g} US dollars a day")
        for screen in self.guard.prompt_screens:
            lines += [f"warning         {warning}" for warning in getattr(screen, "warnings", ())]
        parts = (*self.settings.prompt_screens, *self.settings.image_screens)
        if nobodys := unscored(self.guard.policy, parts):
            lines.append(f"warning         forbidden, but scored by no configured screen: {', '.join(nobodys)}")
        if self.settings.judge_note:
            lines.append(f"to add          {self.settings.judge_note}")
        if self.settings.generator.use == "embedded":
            lines.append(f"to add          {_REAL_MODEL}")
            if self.guard.policy.name != "harmless":
                lines.append(f"to try          {_HARMLESS}")
        if not any("vlm" in part.use for part in self.settings.image_screens):
            lines.append(f"to add          {_VLM}")
        return lines


def build_guard(
    settings: Settings, store: Store, *, prompt: bool = True, image: bool = True, enforce: bool = True
) -> Guard:
    """Load every configured screen and return the guard.

    Args:
        settings: What was configured.
        store: Where the guard remembers.
        prompt: False leaves the prompt screens out; the guard then rules every prompt unavailable.
        image: False leaves the image screens out; the guard then rules every picture unavailable.
        enforce: False counts no attempts and remembers no prompts, for a look at what screens would say.

    Raises:
        ConfigError: If a screen cannot be loaded; nothing is served by fewer screens than are configured.
    """
    policy = settings.policy
    spending = Spending(Calls(store), usd_per_day=settings.spending.usd_per_day, clock=_now)
    collaborators = {"policy": policy, "spending": spending}
    prompt_screens: list[PromptScreen] = [
        _prompt_screen(part, f"prompt_screens[{place}]", settings, store, spending)
        for place, part in enumerate(settings.prompt_screens if prompt else ())
    ]
    image_screens: list[ImageScreen] = [
        _make(part, IMAGE_SCREENS, f"image_screens[{place}]", collaborators)
        for place, part in enumerate(settings.image_screens if image else ())
    ]
    for eye in image_screens:
        for model in getattr(eye, "unpriced", ()):
            spending.require_price(model, is_priced=False)
    for kind, wanted, named in (
        ("prompt_screens", prompt, prompt_screens),
        ("image_screens", image, image_screens),
    ):
        if wanted and not named:
            raise ConfigError(f"{kind}: at least one screen is needed; without one nothing is ever released")
    for kind, method, screens in (
        ("prompt_screens", "screen_prompt", prompt_screens),
        ("image_screens", "screen_images", image_screens),
    ):
        for place, screen in enumerate(screens):
            if not callable(getattr(screen, method, None)) or not isinstance(getattr(screen, "name", None), str):
                raise ConfigError(f"{kind}[{place}]: {type(screen).__name__} needs a 'name' and a method '{method}'")
    if prompt:
        _check_cascade(policy, [screen.name for screen in prompt_screens])
    if prompt and image:
        names = [screen.name for screen in prompt_screens] + [screen.name for screen in image_screens]
        _check_screen_names(policy, names)
    _check_coverage(settings)
    enforcement = enforcement_of(policy, store) if enforce else None
    blocks = any(rule.action is Action.BLOCK for rule in policy.categories.values())
    if enforcement is not None and prompt and blocks and policy.enforcement.remember:
        # The quickest of all, and what it knows no other screen could know.
        prompt_screens.insert(0, BlockedBefore(policy=policy, memory=enforcement))
    return Guard(
        policy,
        store,
        prompt_screens=prompt_screens,
        image_screens=image_screens,
        settings=settings.guard,
        enforcement=enforcement,
    )


def build(settings: Settings) -> Runtime:
    """Load everything that is configured: store, screens, generator.

    Raises:
        ConfigError: If any of it cannot be loaded.
    """
    if settings.store_url.removeprefix("sqlite:///") in ("", ":memory:"):
        raise ConfigError("store.url: a database in memory proves nothing after the process ends; name a file")
    store = open_store(settings.store_url)
    try:
        guard = build_guard(settings, store)
        generator: Generator = _make(settings.generator, GENERATORS, "generator", {"policy": settings.policy})
    except BaseException:
        store.close()
        raise
    return Runtime(settings, guard, generator, store)


def enforcement_of(policy: Policy, store: Store, *, clock: Clock = lambda: datetime.now(UTC)) -> Enforcement:
    """Return the enforcement that a guard on this store has."""
    return Enforcement(
        policy.enforcement,
        Strikes(store),
        BlockedPrompts(store),
        secret=store.secret("blocked-prompts"),
        clock=clock,
    )


def _prompt_screen(part: Part, key: str, settings: Settings, store: Store, spending: Spending) -> PromptScreen:
    """Make a prompt screen; an LLM judge gets a memory for its verdicts, and canaries that watch it."""
    screen: PromptScreen = _make(part, PROMPT_SCREENS, key, {"policy": settings.policy, "spending": spending})
    if not isinstance(screen, LLMJudge):
        return screen
    for model in screen.unpriced:
        spending.require_price(model, is_priced=False)
    made: PromptScreen = screen
    if settings.guard.verdict_cache_s:
        secret = store.secret("verdicts")
        made = CachedScreen(screen, secret=secret, policy=settings.policy, ttl_s=settings.guard.verdict_cache_s)
    watch = settings.canary
    if not watch.every_s:
        return made
    collaborators = {"policy": canary_policy(), "spending": spending.for_purpose("canary")}
    canaries = Canaries(
        _make(part, PROMPT_SCREENS, key, collaborators),
        count=watch.count,
        needed=watch.needed,
        every_s=watch.every_s,
        on_fail=watch.on_fail,
    )
    # Around the memory too: what a judge said before it was found out is not to be used.
    return Trusted(made, canaries)


def _check_screen_names(policy: Policy, configured: Sequence[str]) -> None:
    """Refuse a policy that names a screen that there is not: its typo would leave another threshold in force."""
    known = {*configured, *PROMPT_SCREENS, *IMAGE_SCREENS}
    for rule in policy.categories.values():
        for name in rule.screens:
            if name not in known:
                raise ConfigError(f'policy: categories."{rule.name}".screens.{name}: no screen has this name')
    for name in policy.cascade.skip:
        if name not in known:
            raise ConfigError(f"policy: cascade.skip: no screen is called {name!r}")


def _check_coverage(settings: Settings) -> None:
    """Refuse a policy none of whose categories anybody looks for: it would forbid nothing, and nobody would notice."""
    nobodys = unscored(settings.policy, (*settings.prompt_screens, *settings.image_screens))
    if nobodys and nobodys == forbidden(settings.policy):
        raise ConfigError(
            f"policy: no configured screen scores what it forbids ({', '.join(nobodys)}); add screens that do, such as "
            "terms or llm_judge (the policy 'harmless' has its own: start with --config harmless)"
        )


def _check_cascade(policy: Policy, prompt_screens: Sequence[str]) -> None:
    """Refuse a cascade without a screen that reads every prompt: what is sure must have been read by somebody."""
    if policy.cascade.skip and set(prompt_screens) <= set(policy.cascade.skip):
        raise ConfigError("policy: cascade.skip: names every prompt screen; leave one that reads each prompt")


def _make(part: Part, table: Mapping[str, str], key: str, collaborators: Mapping[str, Any]) -> Any:
    cls = load_class(part.use, table, key=f"{key}.use")
    return construct(cls, part.options, key=key, collaborators=collaborators)


def _now() -> datetime:
    return datetime.now(UTC)
