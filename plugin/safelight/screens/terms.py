"""A list of terms that an operator forbids, found through the normaliser's disguises.

What is covered: each term as a whole word or phrase, in any view of any channel (see ``normalise``); in writings
without gaps between words, as in Chinese, Japanese and Thai, and in Korean, where endings are written on, anywhere in
a text. With ``turns``, also a term that a prompt points back to, and one that is told in bits or letter by letter
(``earlier_turns``).
What is not covered: synonyms, other languages, meaning; without ``turns``, words split over several requests. Terms of
fewer than ``MIN_CIPHER_LETTERS`` letters are not looked for backwards or in ciphers, where ordinary words would be
hits: "png" is "cat" in rot13.
"""

from __future__ import annotations

import asyncio
import re
import unicodedata
from collections.abc import Sequence
from typing import ClassVar

from ..errors import ConfigError
from ..normalise import View, fold, views
from ..policy import Policy
from ..request import GenerationRequest, Turn
from ..verdict import Stage, Verdict
from .card import ScreenCard
from .earlier_turns import MAX_TURNS, Joined, asked_now, said_earlier, told_together

MIN_CIPHER_LETTERS = 5
_CIPHERS = ("reversed", "rot13", "atbash", "caesar", "pig_latin")

_WITHOUT_GAPS = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR")
"""Writings, as Unicode's names of their letters begin, whose words have no gap on both sides."""


class TermsScreen:
    """Scores 1.0 in ``category`` where a term stands in any view, else 0.0.

    Args:
        terms: Words or phrases, compared after the same folding that the views went through.
        category: The category they count for.
        turns: How many of a person's newest turns a prompt is read together with; 0 for none. The reason then says
            ``earlier turns``.
        name: How the screen signs its verdicts.
        policy: The policy that will rule, where it is known: a category that it lacks would find and change nothing.

    Raises:
        ConfigError: If the list is empty, a term folds to nothing, or the policy has no such category.
    """

    CARD: ClassVar[ScreenCard] = ScreenCard(
        title="Terms that the operator forbids",
        stage="prompt",
        source="Safelight's own code; the list is the operator's",
        licence="Apache-2.0",
        covers="one category of the operator's choice: each term as a whole word or phrase, through disguises",
        misses="synonyms, other languages, meaning; words split over several requests, unless turns is set; terms of "
        f"fewer than {MIN_CIPHER_LETTERS} letters backwards or in ciphers",
    )

    def __init__(
        self,
        *,
        terms: Sequence[str],
        category: str,
        turns: int = 0,
        name: str = "terms",
        policy: Policy | None = None,
    ) -> None:
        if policy is not None and category not in policy.categories:
            raise ConfigError(f"terms.category: {category!r} is none of the policy's: {', '.join(policy.categories)}")
        if isinstance(terms, str) or not terms or not all(isinstance(term, str) for term in terms):
            raise ConfigError("terms: must be a list of at least one text")
        if not 0 <= turns <= MAX_TURNS:
            raise ConfigError(f"terms.turns: must be from 0 to {MAX_TURNS}, not {turns}")
        folded = [fold(term) for term in terms]
        if not all(folded):
            raise ConfigError("terms: a term has no letters or digits left after folding")
        self.name = name
        self._category = category
        self._turns = turns
        self._any = _pattern(folded)
        self._long = _pattern([term for term in folded if len(term) >= MIN_CIPHER_LETTERS])

    async def screen_prompt(self, request: GenerationRequest, history: Sequence[Turn]) -> Verdict:
        """Look for the terms in every view of every channel, and in each prompt together with earlier turns."""
        for channel, found in request.views.items():
            if view := self._holds(found):
                return self._verdict(1.0, f"term in {channel}, view {view.kind}")
        prompts = asked_now(request)
        earlier = said_earlier(history, self._turns, prompts=prompts)
        for prompt in prompts if earlier else ():
            # One text at a time: others get their turn, and a deadline ends the work and not only the waiting.
            for text in await asyncio.to_thread(told_together, prompt, earlier):
                if await asyncio.to_thread(self._told, text):
                    return self._verdict(1.0, "term in prompt with earlier turns")
        return self._verdict(0.0, "")

    def _holds(self, found: Sequence[View]) -> View | None:
        """Return the first view that holds a term."""
        for view in found:
            pattern = self._long if any(cipher in view.kind for cipher in _CIPHERS) else self._any
            if pattern is not None and pattern.search(view.text):
                return view
        return None

    def _told(self, text: Joined) -> bool:
        """Return whether a prompt that holds no term asks for one together with the turns before it."""
        # After a refused request an innocent one passes: what an earlier turn holds by itself is not asked for now.
        return bool(self._holds(views(text.whole))) and not self._holds(views(text.before))

    def _verdict(self, score: float, reason: str) -> Verdict:
        return Verdict(
            screen=self.name, stage=Stage.PROMPT, scores={self._category: score}, reason=reason, model="terms"
        )


def _pattern(terms: Sequence[str]) -> re.Pattern[str] | None:
    # Longest first, so that a phrase is found before a word in it. Escaped: a term is no pattern.
    choices = "|".join(_whole(term) for term in sorted(terms, key=len, reverse=True))
    return re.compile(choices) if terms else None


def _whole(term: str) -> str:
    """Return the pattern of a term as a word of its own, at each end where its writing has gaps between words."""
    before, after = ("" if _gapless(char) else edge for char, edge in ((term[0], r"(?<!\w)"), (term[-1], r"(?!\w)")))
    return before + re.escape(term) + after


def _gapless(char: str) -> bool:
    return not char.isascii() and unicodedata.name(char, "").startswith(_WITHOUT_GAPS)
