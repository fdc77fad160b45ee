"""What reading a prompt through its disguises costs: a plain prompt in microseconds, the worst texts in milliseconds.

A plain prompt is read (``views``), named by an HMAC-SHA256 and looked up among 100,000 verdicts. The worst texts have
4,000 characters, the longest that a request takes. Every round times each of them once, in turn, so that a busy machine
slows all; CPU time is compared, so that waiting does not count. The last column is the cost in units of ordinary prose
of the same length, from the same rounds. "Never seen" clears what is remembered of each character before each round.
Run: ``python benchmarks/normalise.py``. One thread.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import random
import time
from collections.abc import Callable, Mapping
from statistics import median

from safelight import characters, traces
from safelight.normalise import NORMALISER_VERSION, views
from safelight.request import MAX_PROMPT_CHARS

ROUNDS = 9
PLAIN_ROUNDS = 2_000
LIMIT_MS = 50.0
LIMIT_US = 100.0
VERDICTS = 100_000
KEY = bytes(32)

PLAIN = "a watercolour of a red teapot at dusk, soft light, highly detailed, oil on canvas, warm colours, bird"
BLOCKS = {"many scripts": (0x80, 0x2FFF), "emoji and styled letters": (0x1D400, 0x1F9FF)}


def worst_texts() -> Mapping[str, str]:
    """Return texts of ``MAX_PROMPT_CHARS`` characters, the ordinary one first; the mixes were found by a search."""
    source = random.Random(3)
    texts = {
        "ordinary prose": "a watercolour of a red teapot at dusk, soft light. ",
        "russian prose": "тихая гавань на рассвете, две лодки. ",
        "hindi prose": "शाम को शांत बंदरगाह, दो नावें। ",
        "lookalikes": "z\u043erbl\u0430x ζοгвlах ",
        "leetspeak": "20r8l@x z0rb1ax ",
        "single letters": "z o.r-b ",
        "emoji": "🕯️ 🍓 a 👨‍👩‍👧 ",
        "weights": "(zo:1.2)[rb:la:0.3] ",
        "escapes": "%7a&#122;\\x7a\\u007a",
        "base64 of leetspeak": base64.b64encode(b"z0rbl4x " * 500).decode(),
        "doubled": "zzoorrbbllaaxx zz00rrbb ",
        "mix with two layers of codes": "a 656d3979596d786865413d3d of z0rb1ax at \U0001f189\U0001f17e zulu oscar "
        "romeo ZW05eVlteGhlQT09 (a:1.2) z\u0301o r b \u043b a ",
    }
    filled = {name: (unit * MAX_PROMPT_CHARS)[:MAX_PROMPT_CHARS] for name, unit in texts.items()}
    for name, (first, last) in BLOCKS.items():
        filled[name] = "".join(chr(source.randint(first, last)) for _ in range(MAX_PROMPT_CHARS))
    filled["shuffled disguises"] = "".join(source.choices("".join(texts.values()), k=MAX_PROMPT_CHARS))
    return filled


def timed(work: Callable[[], object]) -> float:
    """Return CPU seconds."""
    started = time.process_time()
    work()
    return time.process_time() - started


def forget() -> None:
    """Forget every character that was seen."""
    for module in (characters, traces):
        for value in vars(module).values():
            if isinstance(value, characters.Table):
                value.clear()


def never_seen(text: str) -> float:
    """Return CPU seconds of a text whose characters have to be worked out."""
    forget()
    return timed(lambda: views(text))


def plain_prompt() -> None:
    """Print what a plain prompt costs."""

    def name(text: str) -> bytes:
        return hmac.digest(KEY, f"{NORMALISER_VERSION}\n{text}".encode(), hashlib.sha256)

    verdicts = {name(str(number)): number for number in range(VERDICTS)}
    looking, reading = [], []
    for _ in range(PLAIN_ROUNDS):
        reading.append(timed(lambda: views(PLAIN)))
        looking.append(timed(lambda: verdicts.get(name(views(PLAIN)[0].text))))
    print(f"a plain prompt of {len(PLAIN)} characters    min us  median us")
    for label, seconds in (("views", reading), ("views, HMAC, look-up", looking)):
        print(f"{label:36} {1e6 * min(seconds):9.1f}  {1e6 * median(seconds):9.1f}")
    print(f"under {LIMIT_US:.0f} us: {1e6 * min(looking) < LIMIT_US}\n")


def main() -> None:
    """Print both tables."""
    plain_prompt()
    texts = worst_texts()
    found: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, text in texts.items():
            found.setdefault(name, []).append(timed(lambda text=text: views(text)))  # type: ignore[misc]
        for name in BLOCKS:
            found.setdefault(f"{name}, never seen", []).append(never_seen(texts[name]))
        for text in texts.values():
            views(text)
    ordinary = median(found["ordinary prose"])
    print(f"{MAX_PROMPT_CHARS} characters                       min ms  median ms  ratio to prose")
    for name, seconds in found.items():
        print(f"{name:36} {1e3 * min(seconds):6.1f} {1e3 * median(seconds):10.1f} {median(seconds) / ordinary:12.1f}")
    for kind, names in (("seen before", texts.keys()), ("never seen", found.keys() - texts.keys())):
        slowest = 1e3 * max(min(found[name]) for name in names)
        print(f"{kind}: slowest {slowest:.1f} ms, under {LIMIT_MS:.0f} ms: {slowest < LIMIT_MS}")


if __name__ == "__main__":
    main()
