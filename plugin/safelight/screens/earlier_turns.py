"""What a prompt asks for together with the turns before it, for screens that read texts.

"The same, but red" says nothing alone, and neither does "pot" after "tea". A prompt is read together with earlier
turns only where it leans on them, because most prompts do not: after a refused request, an innocent one must pass.

What is covered, in English: prompts that point back ("the same again", "the thing from before", "make it red", "I'd
like it in red", "a red one"), which are read with the newest turn that does not itself point back; those that point
further ("the first one", "earlier"), which are read with all the turns given; bits of up to ``BIT_WORDS`` words, which
are joined with the turns beside them; and single letters, turn by turn. A prompt that names a thing of its own stands
alone wherever it can be read so: "put a hat on the cat and a scarf around it".
What is not covered: other languages' ways of pointing back; pointing in disguise ("the s4me but red"); a colour or a
season alone ("red", "in winter"), and after "but" most words ("but sad"); what points back beside a thing of its own
("put a hat and a scarf on it", "the same, but a golden lid"); bits with more than ``REACH`` characters between them,
invisible ones too; a request told in whole sentences that do not mention one another; refused turns, where things are
put together after two that were not refused; turns older than ``MAX_AGE``, and those that a store does not keep.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ..normalise import MAX_READ_CHARS, fold
from ..policy import Action
from ..request import GenerationRequest, Turn

MAX_TURNS = 50
"""Most turns that a screen can be told to read."""

BIT_WORDS = 2
"""A text of so few words is a bit of one, as far as anybody can tell."""

MIN_LETTERS = 3
"""Turns of single letters in a row from which they are read as a word."""

REACH = 200
"""Characters on each side of where two turns meet that are joined. A term that is told in bits lies across that place,
and even with each letter written as a code of ten characters it is shorter; so what is read does not grow with what
somebody tells, or for how many turns."""

MAX_AGE = timedelta(days=1)
"""Age from which a turn is not read: whoever says "it" does not mean what they asked for on another day, and one
refused request shall not stand in their way for good."""

MAX_BIT_CHARS = 100
"""A longer text is no bit, however few words it has: it may have none at all."""

_PROMPT = "prompt"
_NEGATIVE = "negative_prompt"

# What a text names by itself, so that it needs no other.
_OWN = r"(?:an?|the|some|any|my|our|his|her|two|three|four|five|many|more)\b"
_START = (
    r"^(?:(?:and|now|then|but|or|also|ok|okay|so|please|next|yes|no|just|well(?=,)|let\W?s|can you|could you|"
    r"i want you to|maybe|perhaps|let me see|"
    r"i(?: woul|\W?)d (?:like|love|prefer)(?: to (?:have|see))?|i (?:want|need)(?: to (?:have|see))?)[ ,]+)*"
)
_BEGUN = _START.replace(")*", ")+")
# Words before which nothing was named.
_NO_THING = rf"^(?:(?!{_OWN})[\w']+ ){{0,6}}"
# Here a thing would be named, and none is.
_END = r"(?= *(?:$|[,.;:!?]|(?:but|in|with|without|on|at|as|again|now|please|and|instead|only)\b))"
_COMPARED = (
    r"(?:bigger|smaller|larger|taller|shorter|longer|wider|thinner|thicker|fatter|rounder|higher|lower|darker|lighter|"
    r"brighter|shinier|older|newer|nicer|prettier|better|closer)\b"
)
_SLIGHTLY = r"(?:a bit|a little|a lot|much|even|slightly)"
_CHANGE = (
    r"(?:(?:(?:(?:dark|light|pale|bright|deep) )?"
    r"(?:red|blue|green|yellow|orange|purple|pink|brown|black|white|gr[ae]y|gold|golden|silver|colou?r)"
    rf"|different|new|old|big|small|shiny|broken|wooden|striped|similar)\b|{_COMPARED})"
)
# Nothing but a change: "red, please" and not "red and blue stripes".
_ONLY_CHANGE = _CHANGE + r"(?: *[.,;:!?]*$|,? (?:but|please|instead|again|with)\b)"
_PRONOUN = (
    rf"(?:(?:it|its|them)\b|(?:that|this|these|those)(?:{_END}| (?:(?:a bit|much|all) )?{_CHANGE}{_END})"
    r"|(?:that|this) one\b|one(?: (?:more|again|in|with|but)\b|,(?! two\b)|$))"
)
_VERB = (
    r"(?:make|draw|show|paint|do|redo|try|repeat|use|take|have|turn|redraw|repaint|give|add|put|place|fill|change|attach|"
    r"fix|stick|fit|join|replace|remove|colou?r|set|hang)\b"
)
# A thing of its own: after a mark or "but", or where no word before it belongs to it ("in the snow a cat").
_A_THING = r"(?:an?|some|two|three|many) (?!(?:bit|little|lot)\b|(?:\w+ ){0,2}one\b)\w"
_AFTER_A_MARK = rf".*(?:[,:]|\bbut)(?: but)? {_A_THING}"
_NOUN = (
    r"(?!(?:in|on|at|to|of|as|by|with|without|like|into|onto|under|over|above|below|behind|beside|near|around|from|for|"
    r"through|between|inside|and|or|but|half|such|quite|not|only|just|is|has|have|having|it|them)\b)\w+"
)
_AFTER_A_PLACE = rf" (?:(?:an?|the) )?(?:{_NOUN} ){{1,2}}{_A_THING}"
_AT = r"(?:to|in|into|on|onto|around|with|over|under|behind|beside|of)"

_POINTS_BACK = re.compile(
    "|".join(
        (
            # Words that mean another text, where no thing of their own follows.
            rf"{_NO_THING}(?:the|that|this) (?:very )?(?<!look the )same(?: (?:thing|one|object|item|motif)\b|{_END})"
            rf"(?!{_AFTER_A_MARK})",
            rf"^(?:that|this|it){_END}",
            rf"^(?:redo|redraw|repaint|repeat|same|again|more|one more|ditto|another){_END}",
            r"^(?:same thing|another one|once more)\b",
            rf"{_NO_THING}(?:again|once more){_END}",
            rf"\b(?:(?:as|like|from|of) (?:before|earlier)|(?:as|like) above|as i said){_END}",
            r"\b(?:that|this) (?:one|thing|motif)\b",
            r"\bthe (?:one|thing|object|item|motif|other one)"
            rf"(?= *(?:$|[,.;:!?]|(?:but|again|now|please)\b|in {_CHANGE}))",
            r"\b(?:that|this|the) (?:one|thing|object|item|motif|picture) (?:i|we|from before)\b",
            rf"{_NO_THING}the (?:previous|earlier|first|second|last|former) (?:one|prompt|request|idea|object)\b",
            rf"{_NO_THING}the (?:previous|earlier|first|second|last|former) (?:thing|item)(?: *$|,)",
            r"\b(?:what|which) (?:i|we|you) (?:just )?(?:asked|said|wanted|meant|had|made|drew|described|mentioned)\b",
            r"\b(?:i|we|you|as|above|previously|earlier|already) mentioned\b",
            # What is to be done to something, where it is not said what that is.
            rf"{_START}{_VERB} (?:me )?(?:{_PRONOUN}|another{_END})",
            rf"{_BEGUN}(?:it|them|that|this|one)(?:{_END}| {_CHANGE}{_END})",
            rf"{_START}let (?:it|them|that|this) be {_CHANGE}{_END}",
            rf"{_START}(?:(?:how|what) about )(?:(?:it|them|that|this){_END}|{_ONLY_CHANGE})",
            rf"{_START}(?:(?:how|what) about )?(?:{_VERB} (?:me )?)?an? {_CHANGE} one{_END}",
            # One thing, and the place that it is to have: with two of them, "it" may be the other.
            rf"{_START}{_VERB}(?:(?!,|\b(?:and|{_AT})\b).)*? {_AT} (?:(?:it|them)\b|(?:that|this){_END})",
            # What begins in the middle, and does not go on with a thing of its own.
            rf"{_BEGUN}(?:with|in|on|as)\b(?!{_AFTER_A_MARK}|{_AFTER_A_PLACE})",
            rf"{_BEGUN}(?:{_SLIGHTLY} )?{_ONLY_CHANGE}",
            r"^but (?:at|in|on|with|without|as|from|under|over|for|not|very|much|this time)\b",
            rf"^(?:but {_CHANGE}|in {_CHANGE}|with \w+|(?:{_SLIGHTLY} )?{_COMPARED})(?:,? please)?$",
        )
    )
)
_POINTS_AT_SEVERAL = re.compile(r"\b(?:together|both|combine)\b")
_POINTS_FAR = re.compile(
    r"\b(?:first|second|earlier|originally|before that|all of (?:it|that|them)|the words|"
    r"(?:these|my|my last|my previous) (?:words|letters|things|two|three|prompts|messages|requests))\b"
)
_WORD = re.compile(r"\w+")
# Quotes, brackets, signs and the numbers of a list around a text say nothing, and none of them may hide it.
_BARE = re.compile(r"[\W\d]*(.*\w)?", re.DOTALL)

# Chinese, Japanese, Thai, Lao, Khmer and Burmese have no spaces: two of their letters are taken for a word.
_GAPLESS = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_BIT_WORD = re.compile(rf"[{_GAPLESS}]{{1,2}}|[^\W{_GAPLESS}]+")


def said_earlier(
    history: Sequence[Turn], turns: int, *, prompts: Sequence[str] = (), now: datetime | None = None
) -> list[str]:
    """Return what the newest ``turns`` turns asked for, oldest first; what a picture was to avoid asks for nothing.

    Turns whose block was overturned, and those older than ``MAX_AGE``, are left out; and before two turns that were
    not refused, the refused ones, where one of ``prompts`` asks for several things together.

    Args:
        history: The turns, oldest first.
        turns: Most turns.
        prompts: What is asked now.
        now: The time now.
    """
    if not turns:
        return []
    oldest = (now or datetime.now(UTC)) - MAX_AGE
    # What a person ruled to be harmless is not refused again.
    kept = [turn for turn in history if not turn.overturned and turn.at >= oldest][-turns:]
    if any(_means_the_newest(prompt) for prompt in prompts):
        # After a refused request an innocent one passes: with two to put together, the refused one is not meant.
        newer = kept[-2:]
        if len(newer) == 2 and all(turn.action in (Action.ALLOW, Action.FLAG) for turn in newer):
            kept = [turn for turn in kept if turn.action is not Action.BLOCK]
    said = (" ".join(text for name, text in turn.texts.items() if not name.startswith(_NEGATIVE)) for turn in kept)
    return [text for text in said if text.strip()]


def asked_now(request: GenerationRequest) -> list[str]:
    """Return each distinct text that a request asks for, its prompt first: an encoder may have a prompt of its own."""
    return list(dict.fromkeys(text for name, text in request.texts.items() if name.startswith(_PROMPT)))


def pointed_at(prompt: str, earlier: Sequence[str]) -> str | None:
    """Return a prompt that points back, together with what it points at; None where it stands for itself.

    Args:
        prompt: What is asked now.
        earlier: What was asked before, oldest first.
    """
    bare = _bare(prompt)
    if not earlier or not _POINTS_BACK.search(bare):
        return None
    if _POINTS_FAR.search(bare) or _POINTS_AT_SEVERAL.search(bare):
        return ", ".join([*earlier, prompt])
    meant = [prompt]
    for text in reversed(earlier):
        meant.insert(0, text)
        if not _POINTS_BACK.search(_bare(text)):
            break
    return ", ".join(meant)


def _bare(text: str) -> str:
    found = _BARE.match(fold(text))
    return found[1] or "" if found else ""


def _means_the_newest(prompt: str) -> bool:
    bare = _bare(prompt)
    return bool(_POINTS_AT_SEVERAL.search(bare)) and not _POINTS_FAR.search(bare)


@dataclass(frozen=True, slots=True)
class Joined:
    """Turns in a row as one text.

    Args:
        whole: With the prompt at its end.
        before: Without it: what is found here already was not asked for now.
    """

    whole: str
    before: str


def told_together(prompt: str, earlier: Sequence[str]) -> list[Joined]:
    """Return each text in which a prompt and the turns before it may ask for something together.

    Together they are short, however many turns there are and however long: some 20,000 characters of what is pointed
    at, and what ``joined`` yields.
    """
    meant = pointed_at(prompt, earlier)
    if meant is not None and len(meant) > MAX_READ_CHARS:
        # No more is read in all its views: rather the beginning of each turn than all of the oldest ones.
        share = MAX_READ_CHARS // len(earlier)
        meant = pointed_at(prompt, [text[:share] for text in earlier])
    # Who points at something asks for it now, whoever said it first.
    return [*([Joined(meant, "")] if meant else []), *joined(prompt, earlier)]


def joined(prompt: str, earlier: Sequence[str]) -> Iterator[Joined]:
    """Yield a prompt joined with the turns before it, as far back as one of each two neighbours is a bit of text.

    Then what single letters spell, if they were told turn by turn and the last of them now. Each text is yielded once,
    and holds at most ``REACH`` characters of the prompt and as many of what was before it.
    """
    seen = set()
    for row in _rows(prompt, earlier):
        if row.whole not in seen:
            seen.add(row.whole)
            yield row


def _rows(prompt: str, earlier: Sequence[str]) -> Iterator[Joined]:
    now = _beginning(prompt.strip())
    spaced, glued, next_is_bit = "", "", _is_bit(prompt)
    for text in map(str.strip, reversed(earlier)):
        is_bit = _is_bit(text)
        if len(spaced) == REACH or not (is_bit or next_is_bit):
            break
        spaced, glued, next_is_bit = f"{text} {spaced}".strip()[-REACH:], (text + glued)[-REACH:], is_bit
        yield Joined(f"{spaced} {now}", spaced)
        yield Joined(glued + now, glued)
    letters: list[str] = []
    for text in (prompt, *reversed(earlier)):
        told = _single_letters(text)
        if not told:
            break
        letters.insert(0, told)
        if len(letters) >= MIN_LETTERS:
            told_before = "".join(letters[:-1])[-REACH:]
            yield Joined(told_before + letters[-1][:REACH], told_before)


def _beginning(prompt: str) -> str:
    """Return the first ``REACH`` characters, without a word that is cut off there, which might be another word so."""
    return prompt if len(prompt) <= REACH else prompt[:REACH].rsplit(maxsplit=1)[0]


def _single_letters(text: str) -> str:
    single = [word for word in _WORD.findall(fold(text)) if len(word) == 1 and word.isalpha()]
    # "A letter p" tells one letter, not two.
    return "".join([letter for letter in single if letter != "a"] or single[-1:])


def _is_bit(text: str) -> bool:
    folded = fold(text)
    return len(folded) <= MAX_BIT_CHARS and len(_BIT_WORD.findall(folded)) <= BIT_WORDS
