"""Which of a policy's categories nobody looks for: a name alone in a policy finds nothing.

Only what the settings say for certain is used. Some shipped screens score a few of the shipped policy's categories,
whatever their options; some name theirs in an option; any other screen, a judge or one of somebody's own, may score
whatever the policy asks. Which of the shipped policy's categories a screen scores, and how well, is said on its card.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .decision import Action
from .policy import Policy
from .screens import IMAGE_SCREENS, PROMPT_SCREENS
from .settings import Part
from .verdict import Category

_SHIPPED = frozenset(map(str, Category))
_TEAPOTS = frozenset({"teapots"})
_SCORED: Mapping[str, Callable[[Mapping[str, Any]], Iterable[Any]]] = {
    PROMPT_SCREENS["terms"]: lambda options: [options.get("category")],
    PROMPT_SCREENS["minilm_head"]: lambda options: _SHIPPED,
    PROMPT_SCREENS["sentence_head"]: lambda options: _SHIPPED,
    PROMPT_SCREENS["teapot_head"]: lambda options: _TEAPOTS,
    IMAGE_SCREENS["open_nsfw"]: lambda options: _SHIPPED,
    IMAGE_SCREENS["image_safety"]: lambda options: _SHIPPED,
    IMAGE_SCREENS["nudenet"]: lambda options: _SHIPPED,
    IMAGE_SCREENS["private_detector"]: lambda options: _SHIPPED,
    IMAGE_SCREENS["falconsai"]: lambda options: _SHIPPED,
    IMAGE_SCREENS["hub_classifier"]: lambda options: _values(options.get("labels")),
    IMAGE_SCREENS["safety_checker"]: lambda options: _SHIPPED,
    IMAGE_SCREENS["teapots"]: lambda options: _TEAPOTS,
}
"""The categories that a screen scores at most, by its import string and from its options."""


def _values(option: Any) -> Iterable[Any]:
    # What an option should have been is said where its screen is made.
    return option.values() if isinstance(option, Mapping) else ()


def forbidden(policy: Policy) -> tuple[str, ...]:
    """Return the categories for which a policy withholds something."""
    return tuple(name for name, rule in policy.categories.items() if rule.action.severity > Action.FLAG.severity)


def unscored(policy: Policy, parts: Iterable[Part]) -> tuple[str, ...]:
    """Return the forbidden categories that certainly none of these screens scores, in the policy's order.

    The shipped policy's categories are never among them: see the cards of the screens.

    Args:
        policy: The policy that rules.
        parts: The screens of both stages, as they are configured.
    """
    scored = set(_SHIPPED)
    for part in parts:
        use = PROMPT_SCREENS.get(part.use) or IMAGE_SCREENS.get(part.use, part.use)
        if use not in _SCORED:
            return ()
        scored.update(name for name in _SCORED[use](part.options) if isinstance(name, str))
    return tuple(name for name in forbidden(policy) if name not in scored)
