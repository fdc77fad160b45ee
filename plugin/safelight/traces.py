"""Telling a disguise that is there from a reading that every text is given: the traces that each disguise leaves.

The views of a text hold blind readings, which are noise for nearly every text. A judge and an operator should be shown
only those that undo something; here is what tells them. The rules are drawn so that ordinary prompts in any language,
with their numbers, units, weights, accents and emoji, leave none. So they are blind to a single hyphen in a word, a
single digit near its end, capitals inside it, a text that is written backwards, and acrostics: ordinary prompts are
written like that, and whoever reads the raw text can read these as well.
"""

from __future__ import annotations

import re
import unicodedata

from . import characters, lookalikes

# One sign for each character: "a" ASCII letter, "d" digit, "l" other Latin letter, "r" rare Latin letter, "f" letter in
# fancy dress (NFKC or its name makes one Latin letter of it), "c" Cyrillic, "g" Greek, "o" other alphabets that have
# Latin lookalikes, "w" any other letter, "m" mark, "i" invisible, "I" regional indicator, "$" currency sign that looks
# like a letter, " " white space, "." anything else.
_ALPHABETS = {
    "CYRILLIC": "c", "GREEK": "g", "ARMENIAN": "o", "CHEROKEE": "o", "COPTIC": "o", "DESERET": "o", "GEORGIAN": "o",
    "LISU": "o",
}  # fmt: skip

# Latin letters beyond Extended-A that living languages are written with; Extended Additional is Vietnamese and Indic.
_USUAL_LATIN = frozenset("ơƠưƯșȘțȚəƏɛƐɔƆɓƁɗƊƙƘƴƳɣƔŋŊǝ") | {chr(code) for code in range(0x1CD, 0x1DD)}

_LOOKS = (
    ("invisible characters removed", re.compile(r"[alrgcof]i++[alrgcof]|(?:wi++){3}w")),
    ("marks on letters removed", re.compile(r"m{5}|[alr]m{3}|(?:[alr]m+){3}|(?<![alr])(?:[lr]|[alr]m+){5,}(?![alrm])")),
    ("styled letters read as plain ones", re.compile(r"f(?:[.i]?f){3}|[alr]f++[alr]|I{5}|r[al]*+r|[al]\$[al]")),
)
_WORD = re.compile(r"[alrgco]{3,}")
_ANY_WORD = re.compile(r"[alrgcow]{2,}")
_TURNED = re.compile("[ɐǝɟƃᴉɾʞɹʇʌʍʎ]")

_LEET = "0-9@$€£¥¢§!¡|"
_LEET_WORD = re.compile(rf"(?<![\w#.,/{_LEET}-])(?=[{_LEET}]*+[a-z])[a-z{_LEET}]{{4,64}}(?!\w|\.[a-z])")
_LEET_ANY = re.compile(f"[{_LEET}]")
_LEET_SIGN = re.compile(r"(?<=[a-z0-9|])[@$€£¥¢§!¡](?=[a-z0-9|])")
_LEET_INSIDE = re.compile(rf"(?<=[a-z])[{_LEET}]{{1,2}}(?=[a-z])")
_LEET_VOWEL = re.compile(r"[a-z](?:[0134])(?=[a-z]{2})(?!(?:mm|cm|km|px|th|st|nd|rd)(?![a-z]))")
_DRAWN = re.compile(r"\|[-_\\/3)><=]|/[-\\]|\\/|><|\}\{|(?<=[a-z])\(\)(?=[a-z|])")

_BICAMERAL = "a-zα-ωа-я"
_LETTERS = re.compile(rf"(?<![^\W_])[{_BICAMERAL}](?:[\W_]{{1,8}}[{_BICAMERAL}0-9](?![^\W_])){{4,}}")
_CHARACTERS = re.compile(r"(?<!\S)\S(?:\s{1,4}\S(?!\S)){4,}")
_PIECES = re.compile(r"(?<![^\W_])[a-z]{1,2}(?:[\W_]{1,3}[a-z]{1,2}(?![^\W_])){3,}")
_CLUSTER = re.compile(
    r"(?<![a-z])(?!mr|dr|st|tv|vs|ft|hd|pc|cm|mm|kg|km|pm|nd|rd|th|dj|vr)[b-df-hj-np-tv-xz]{2}(?![a-z])"
)
_ALL_DOUBLED = re.compile(r"(?<![^\W_])(?:([^\W\d_])\1+){3,}(?![^\W_])")
_LONG_RUN = re.compile(r"([^\W\d_])\1{3}")
_MIN_LETTERS_BESIDE_A_RUN = 6
_ODD_SIGN = re.compile(r"[*^\\](?<=[a-z].)[a-z]")


def looks(text: str) -> str:
    """Say what disguises the characters of a raw text, as remarks joined by "; ", or nothing."""
    if text.isascii() and text.isprintable():
        return ""
    shape = text.translate(_SHAPE)
    if "mmmmm" not in shape:
        # Only then: normalising long runs of marks takes their square.
        composed = unicodedata.normalize("NFC", text)
        text, shape = (composed, composed.translate(_SHAPE)) if composed != text else (text, shape)
    remarks = [remark for remark, pattern in _LOOKS if pattern.search(shape)]
    if _mixes_alphabets(text, shape):
        remarks.append("lookalike letters read as Latin")
    return "; ".join(remarks)


def backspaces(text: str) -> bool:
    """Tell whether backspaces or deletes are in the text."""
    return "\b" in text or "\x7f" in text


def turned(text: str) -> bool:
    """Tell whether two letters stand on their heads."""
    return not text.isascii() and len(_TURNED.findall(text)) > 1


def leet(text: str) -> bool:
    """Tell whether a word of a folded text has digits or signs in the place of letters."""
    return bool(_LEET_ANY.search(text)) and any(_is_leet(word) for word in _LEET_WORD.findall(text))


def drawn(text: str) -> bool:
    """Tell whether three letters of one word are drawn with several characters."""
    return any(len(_DRAWN.findall(word)) > 2 and any(map(str.isalpha, word)) for word in text.split())


def spaced(text: str) -> set[str]:
    """Tell what stands in a row of five or more: "letters", "characters" of any kind, "pieces" that are no words."""
    found = set()
    for name, pattern in (("letters", _LETTERS), ("characters", _CHARACTERS)):
        if any(sum(map(str.isalpha, run)) > 2 for run in pattern.findall(text)):
            found.add(name)
    if any(_CLUSTER.search(run) for run in _PIECES.findall(text)):
        found.add("pieces")
    return found


def repeated(text: str) -> bool:
    """Tell whether all letters of a word are doubled, or one is much too long in a word that is not just a cry."""
    if _ALL_DOUBLED.search(text):
        return True
    return bool(_LONG_RUN.search(text)) and any(
        _LONG_RUN.search(word) and len(set(word)) >= _MIN_LETTERS_BESIDE_A_RUN for word in text.split()
    )


def odd_signs(text: str) -> bool:
    """Tell whether a sign stands between letters where no language or prompt syntax puts one."""
    return bool(_ODD_SIGN.search(text))


def _is_leet(word: str) -> bool:
    letters = sum(map(str.isalpha, word))
    if letters < 3 or word.isalpha():
        return False
    inside = len(_LEET_INSIDE.findall(word))
    return (
        bool(_LEET_SIGN.search(word)) or inside > 1 or (inside == 1 and letters > 4 and bool(_LEET_VOWEL.search(word)))
    )


def _mixes_alphabets(text: str, shape: str) -> bool:
    """Tell whether a word has letters of two alphabets, or one among Latin words only looks Latin."""
    foreign = []
    for match in _WORD.finditer(shape):
        alphabets = set(match[0].translate(_ONE_LATIN))
        if len(alphabets) > 1:
            return True
        if "a" not in alphabets:
            foreign.append(match)
    words = len(_ANY_WORD.findall(shape))
    if not foreign or len(foreign) * 2 >= words:
        return False
    return any(lookalikes.unmask(text[word.start() : word.end()]).isascii() for word in foreign)


def _shape(char: str) -> str:
    if char.isspace():
        return " "
    if characters.is_invisible(char):
        # Backspaces have a remark of their own.
        return "." if char in "\b\x7f" else "i"
    if char in characters.OUTLINED:
        return "f"
    kind = unicodedata.category(char)
    if kind[0] == "M":
        return "m"
    if "\U0001f1e6" <= char <= "\U0001f1ff":
        return "I"
    if kind[0] == "L" or kind == "So" or kind == "Nl":
        return _letter_shape(char)
    if kind == "Sc":
        return "$" if not char.isascii() and char.translate(characters.LOOKALIKES).isascii() else "."
    return "d" if kind[0] == "N" else "."


def _letter_shape(char: str) -> str:
    if char.isascii():
        return "a"
    bare = unicodedata.normalize("NFKC", char).strip("()") if unicodedata.decomposition(char) else char
    if bare != char and len(bare) == 1 and bare.isascii():
        return "f"
    name = unicodedata.name(char, "")
    if not char.isalpha():
        return "f" if "LATIN CAPITAL LETTER" in name else "."
    if "LATIN" not in name:
        return _ALPHABETS.get(name.partition(" ")[0], "w")
    return "l" if char < "\u0180" or "\u1e00" <= char <= "\u1eff" or char in _USUAL_LATIN or len(bare) > 1 else "r"


_ONE_LATIN = str.maketrans("lr", "aa")
_SHAPE = characters.Table(_shape)
