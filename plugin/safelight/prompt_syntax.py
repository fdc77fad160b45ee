"""Undoing what a prompt holds besides words: weights, schedules, choices, loaders, a text encoder's special tokens.

Read are the styles of A1111 and Forge, ComfyUI, Compel and InvokeAI, NovelAI, Midjourney, and the tokens of CLIP, T5
and chat models. A generator's parser takes all of it away, so a word may be cut by it and still reach the generator
whole. All functions are linear in the text.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"<\|[^|<>]{0,64}\|>|<[!/]?[\w-][^<>\n]{0,200}>|\[/?(?:CLS|SEP|PAD|UNK|MASK|BOS|EOS|INST)\]", re.IGNORECASE
)
_SPECIAL_TOKEN = re.compile(
    r"<\|[^|<>]{0,64}\|>|</?(?:s|pad|unk|bos|eos|cls|sep|mask|extra_id_\d{1,3}|(?:start|end)_of_\w{1,20})>"
    r"|\[/?(?:CLS|SEP|PAD|UNK|MASK|BOS|EOS|INST)\]",
    re.IGNORECASE,
)
_NUMBER = r"[+-]?(?:\d{1,4}(?:\.\d{0,8})?|\.\d{1,8})"
_WEIGHT = re.compile(
    rf":{{1,2}}[ ]?{_NUMBER}(?=\s*[)\]}}>,|])"
    rf"|::[ ]?(?:{_NUMBER})?"
    r"|(?<=[)\]])[+-]?(?:\d(?:\.\d{1,8})?|[+-]{1,8})(?=[\s,()\[\]]|$)"
    r"|(?<=\w)(?:\+{1,8}|-{1,8})(?=[\s,)\]]|$)"
    r"|\.(?:and|blend|swap)\([^()]{0,64}\)"
)
_KEYWORD = re.compile(r"(?<!\s)\s*+(?<!\w)(?:AND(?:_[A-Z]{1,8})?|BREAK|ADDCOMM|ADDROW|ADDCOL|ADDBASE)(?!\w)\s*+")
_CHOICE = re.compile(r"[\[{]([^\[\]{}]{1,400})[\]}]")
_SEPARATOR = re.compile(r"\s*+(?:(?:\d{1,2}(?:-\d{1,2})?)?\$\$|[|:])\s*+")
_QUOTES_IN_LIST = re.compile(r"(?<=\()[\"']|[\"']\s*+,\s*+[\"']|[\"'](?=\))")
_BRACKETS = re.compile(r"\\?[()\[\]{}<>]")
_SIGNS = re.compile(r"[<>()\[\]{}:+-]")

_CUT_BY_NUMBER = re.compile(r"(?<=[^\W_])\x00*+\x01[\x00\x01]*+(?=[^\W_])")
_CUT_BY_BRACKET = re.compile(r"(?<=[^\W_])\x00++(?=[^\W_])")
_KEYWORD_BETWEEN = re.compile(rf"(?<=[^\W_]){_KEYWORD.pattern}(?=[^\W_])")
_LISTED = re.compile(r"\)\.(?:and|blend|swap)\(")
_SHOUTED = re.compile(r"[A-Z]{2,}\s+(?:AND|BREAK)\s+[A-Z]{2,}")
_OPTIONS = re.compile(r"[\[{][^\[\]{}:|]{0,200}[:|][^\[\]{}]{0,200}[^\W\d_][^\[\]{}]{0,200}[\]}]")


def without_syntax(text: str) -> tuple[str, str]:
    """Take away what weights, schedules, chooses or loads something, and special tokens.

    Returns:
        The text with nothing and with a space in the place of each; the text itself twice where there is none.
    """
    if not _may_hold_syntax(text):
        return text, text
    cut = _WEIGHT.sub("\0", _TOKEN.sub("\0", text))
    cut = _CHOICE.sub(lambda match: "\0" + _SEPARATOR.sub("\0", match[1]) + "\0", cut)
    for pattern in (_KEYWORD, _QUOTES_IN_LIST, _BRACKETS):
        cut = pattern.sub("\0", cut)
    return cut.replace("\0", ""), cut.replace("\0", " ")


def traces(text: str) -> str:
    """Say what is there that weights on whole words do not explain.

    Returns:
        A remark, or an empty text where there is nothing, or only weights and brackets around whole words.
    """
    if not _may_hold_syntax(text):
        return ""
    if _SPECIAL_TOKEN.search(text):
        return "special tokens removed"
    cut = _BRACKETS.sub("\0", _WEIGHT.sub("\1", _TOKEN.sub("\1", text)))
    # A single bracket inside a word is ordinary, as in "person(s)".
    if _CUT_BY_NUMBER.search(cut) or sum(map(len, _CUT_BY_BRACKET.findall(cut))) > 1:
        return "prompt syntax inside words removed"
    if _OPTIONS.search(text) or _LISTED.search(text) or (_KEYWORD_BETWEEN.search(text) and not _SHOUTED.search(text)):
        return "scheduled or combined prompts joined"
    return ""


def _may_hold_syntax(text: str) -> bool:
    return bool(_SIGNS.search(text)) or "AND" in text or "BREAK" in text or "ADD" in text
