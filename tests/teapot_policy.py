"""A harmless policy of three categories for the picture judges."""

from __future__ import annotations

from safelight.policy import Policy

_CATEGORY = """
[categories."{name}"]
title = "{title}"
description = "{description}"
advice = "Leave it out."
action = "block"
thresholds = {{ prompt = 0.5, image = 0.5 }}
"""

DESCRIPTIONS = {
    "teapots": "Belongs: vessels with a spout for brewing tea. Does not belong: cups and kettles.",
    "umbrellas/open": "Belongs: umbrellas that are open.\\nDoes not belong: closed ones, and parasols for drinks.",
    "hats": "Belongs: hats, worn or not.",
}
"""Category to description, as TOML writes it."""


def teapot_policy(*, title: str = "Things") -> Policy:
    """Return a policy that forbids three harmless things. ``title`` is the title of each."""
    categories = [
        _CATEGORY.format(name=name, title=f"{title} ({name})", description=description)
        for name, description in DESCRIPTIONS.items()
    ]
    return Policy.parse('version = 1\nname = "teapots"\n' + "".join(categories))
