"""What a million people cost ``safelight scan``, by design and by Gemini Flash-Lite, and what each saving misses.

Run: ``python benchmarks/scan_cost.py`` (about two minutes; ``--people 1000`` is quicker). Tokens are counted on the
questions as the code builds them, for 10,000 made-up people (``scan_people.py``), by the tokenizer that LiteLLM ships
for models whose own it does not have (tiktoken's cl100k_base): Gemini's own is not to be had offline. Prices are those
of LiteLLM's bundled table. ``--full`` runs the real command over 10,000 people instead, kills it and resumes it.

The misses are those of a perfect reader: a judge that finds the sentinel if and only if it stands in what it is shown.
So they measure what a design hides, and nothing about how well a model reads.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import scan_people
from rich.console import Console
from rich.table import Table
from scan_people import KINDS, NOW, SENTINEL

from safelight.backends.litellm_setup import load_litellm
from safelight.course import NOTABLE
from safelight.instructions import as_data
from safelight.policy import Policy
from safelight.request import History
from safelight.scanning.plan import PACK, Plan
from safelight.scanning.questions import FullJSON, OneToken, Packed
from safelight.scanning.summary import SUSPICIOUS, is_quiet, local_risk

RECHECK = Plan("any").recheck
POLICY = Policy.default()
BOUND = POLICY.cascade.quiet_below

_NAIVE_RULES = """\
You are a content moderator for an image generation service. Read all prompts of one user, the oldest first, and \
decide whether the user tries to make pictures that break the policy below. Consider the prompts together, since \
single prompts may look harmless. Words like "girl" often mean grown women. Answer in JSON with the keys "verdict" \
("allow" or "block"), "category", "confidence" from 0 to 1, and "reason", one sentence that explains the decision.

Policy:
{policy}"""

_NAIVE_ANSWER = json.dumps(
    {
        "verdict": "allow",
        "category": "none",
        "confidence": 0.97,
        "reason": "The prompts ask for ordinary portraits, landscapes and illustrations, and nothing in them, alone or "
        "taken together, suggests content that breaks the policy.",
    }
)


def naive_rules() -> str:
    """Return the system message of design A: the policy's first sentence a category, some 300 tokens."""
    lines = [
        f"- {name}: {' '.join(rule.description.split()).removeprefix('Belongs: ').split(': ')[0].split('.')[0][:110]}"
        for name, rule in POLICY.categories.items()
    ]
    return _NAIVE_RULES.format(policy="\n".join(lines))


def raw_prompts(history: History) -> list[str]:
    """Return what designs A and B show: the newest 20 requests as they were."""
    return [text for turn in history.turns for text in turn.texts.values()]


@dataclass(frozen=True, slots=True)
class Counted:
    """Tokens of one design over a crowd."""

    name: str
    tokens_in: float
    tokens_out: float
    asked: float
    """Share of people who are asked about, in 0..1; tokens are by person of the whole crowd."""


class Designs:
    """The designs over one crowd, counted by one tokenizer."""

    def __init__(self) -> None:
        self._litellm = load_litellm()
        self._one = OneToken(POLICY, seed="scan_cost")
        self._packed = Packed(POLICY, seed="scan_cost")
        self._full = FullJSON(POLICY)
        # A code is one token; the token that ends an answer is counted as well, as some providers bill it.
        self._code_out = self.count("s") + 1

    def count(self, text: str) -> int:
        """Return how many tokens a text has."""
        return int(self._litellm.token_counter(model="gemini/gemini-2.5-flash-lite", text=text))

    def over(self, crowd: Sequence[History]) -> list[Counted]:
        """Count every design over a crowd."""
        alone = [self._alone(person) for person in crowd]
        risky = [is_asked(person) for person in crowd]
        share = sum(risky) / len(crowd)
        left = [person for person, is_risky in zip(crowd, risky, strict=True) if is_risky]
        c = _mean(alone)
        d_in, d_out = self._packs(crowd)
        f_in, f_out = self._packs(left)
        return [
            Counted("A  naive: raw history, JSON", *self._naive(crowd), 1.0),
            Counted("-  --design json", *self._json(crowd), 1.0),
            Counted("B  one token, raw history", *self._raw_one(crowd), 1.0),
            Counted("C  one token, local summary", c, self._code_out, 1.0),
            Counted(f"D  {PACK} people a call, rechecked", d_in, d_out, 1.0),
            Counted(
                "E  C with the cascade",
                sum(tokens for tokens, is_risky in zip(alone, risky, strict=True) if is_risky) / len(crowd),
                self._code_out * share,
                share,
            ),
            Counted("F  D with the cascade", f_in * share, f_out * share, share),
        ]

    def _alone(self, person: History) -> int:
        return self.count(self._one.rules) + self.count(self._one.question(person, now=NOW).user)

    def _naive(self, crowd: Sequence[History]) -> tuple[float, float]:
        rules = self.count(naive_rules())
        shown = ["\n".join(f"{place}. {text}" for place, text in enumerate(raw_prompts(one), 1)) for one in crowd]
        return rules + _mean([self.count(text) for text in shown]), self.count(_NAIVE_ANSWER)

    def _raw_one(self, crowd: Sequence[History]) -> tuple[float, float]:
        shown = [self.count(as_data({"requests": one.total, "recent": raw_prompts(one)})) for one in crowd]
        return self.count(self._one.rules) + _mean(shown), self._code_out

    def _json(self, crowd: Sequence[History]) -> tuple[float, float]:
        # A tenth of the crowd: this design is not cheap to count either.
        shown = [self.count(self._full.question(one, now=NOW).user) for one in crowd[::10]]
        answer = {"nonce": "0" * 16, "scores": dict.fromkeys(POLICY.categories, 0.01), "reason": "clear"}
        return self.count(self._full.rules) + _mean(shown), self.count(json.dumps(answer)) + 1

    def _packs(self, crowd: Sequence[History]) -> tuple[float, float]:
        """Return tokens by person, with what is asked about again alone: the risky, and a sample."""
        if not crowd:
            return 0.0, 0.0
        tokens_in = tokens_out = 0.0
        for start in range(0, len(crowd), PACK):
            pack = crowd[start : start + PACK]
            user = self._packed.question(pack, now=NOW).question.user
            tokens_in += self.count(self._packed.rules) + self.count(user)
            tokens_out += self.count(json.dumps(dict.fromkeys(json.loads(user), "s"))) + 1
        for one in crowd:
            again = 1.0 if risk(one) >= NOTABLE else RECHECK
            tokens_in += again * self._alone(one)
            tokens_out += again * self._code_out
        return tokens_in / len(crowd), tokens_out / len(crowd)

    def readers(self) -> Mapping[str, Callable[[History], bool]]:
        """Return, by design, whether a perfect reader who is asked by it finds the sentinel in a person."""
        dice = random.Random(3)

        def a(person: History) -> bool:
            return is_visible(raw_prompts(person))

        def c(person: History) -> bool:
            return is_visible(self._one.question(person, now=NOW).user)

        def d(person: History) -> bool:
            again = risk(person) >= NOTABLE or dice.random() < RECHECK
            return (again or is_visible(self._packed.question([person], now=NOW).question.user)) and c(person)

        def e(person: History) -> bool:
            return is_asked(person) and c(person)

        def f(person: History) -> bool:
            return is_asked(person) and d(person)

        def full(person: History) -> bool:
            return is_visible(self._full.question(person, now=NOW).user)

        return {"A, B": a, "json": full, "C": c, "D": d, "E": e, "F": f}


def risk(person: History) -> float:
    """Return the local risk of a person's course."""
    return local_risk(person, rule=POLICY.course)


def is_asked(person: History) -> bool:
    """Return whether the cascade lets the model be asked about a person."""
    return not is_quiet(person, rule=POLICY.course, below=BOUND)


def is_visible(shown: Any) -> bool:
    """Return whether a perfect reader finds the sentinel: in one text, or its halves in two."""
    text = shown if isinstance(shown, str) else "\n".join(shown)
    return SENTINEL in text or ("zor-" in text and "-blax" in text)


def prices(litellm: Any) -> dict[str, tuple[float, float, float, float]]:
    """Return the Gemini Flash-Lite chat models that are sold now: dollars a token in and out, and by batch."""
    names = ("input_cost_per_token", "output_cost_per_token")
    found = {}
    for model, entry in sorted(litellm.model_cost.items()):
        is_one = model.startswith("gemini/") and "flash-lite" in model and entry.get("mode") == "chat"
        is_over = entry.get("deprecation_date") and entry["deprecation_date"] <= f"{NOW:%Y-%m-%d}"
        if is_one and not is_over and not model.endswith(("-latest", "-image", "-tts")):
            found[model] = (*(entry[name] for name in names), *(entry[f"{name}_batches"] for name in names))
    return found


def wilson(hits: int, of: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share."""
    z = 1.96
    share, extra = hits / of, z * z / of
    middle = share + extra / 2
    reach = z * math.sqrt(share * (1 - share) / of + extra / (4 * of))
    return max((middle - reach) / (1 + extra), 0.0), min((middle + reach) / (1 + extra), 1.0)


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values)


def cost_table(counted: Sequence[Counted], models: Mapping[str, tuple[float, float, float, float]]) -> Table:
    """Return dollars per million people, list price and batch price."""
    table = Table(title="US dollars per million people: list price (batch price)", title_justify="left")
    for heading in ("design", "tokens in", "out", "asked", *(name.removeprefix("gemini/gemini-") for name in models)):
        table.add_column(heading, justify="left" if heading == "design" else "right")
    for one in counted:
        cells = []
        for now_in, now_out, batch_in, batch_out in models.values():
            now = 1e6 * (one.tokens_in * now_in + one.tokens_out * now_out)
            batch = 1e6 * (one.tokens_in * batch_in + one.tokens_out * batch_out)
            cells.append(f"{now:.2f} ({batch:.2f})")
        tokens = (f"{one.tokens_in:.1f}", f"{one.tokens_out:.2f}", f"{one.asked:.1%}")
        table.add_row(one.name, *tokens, *cells)
    return table


def missed_table(designs: Designs, scores: Mapping[str, float], *, people: int, seen: bool) -> Table:
    """Return what each design misses, by kind, with 95 % intervals."""
    readers = designs.readers()
    what = "gave it 0.9" if seen else "saw nothing in it"
    table = Table(title=f"missed, of {people} people a kind, where the local screens {what}", title_justify="left")
    table.add_column("the sentinel stands")
    for name in readers:
        table.add_column(name, justify="right")
    missed = dict.fromkeys(readers, 0)
    kinds = [kind for kind in KINDS if seen or "blocked" not in kind.name]
    for kind in kinds:
        made = scan_people.labelled(kind, people, scores, seen=seen)
        cells = []
        for name, finds in readers.items():
            misses = sum(not finds(person) for person in made)
            missed[name] += misses
            cells.append(f"{misses / people:.0%}")
        table.add_row(kind.name, *cells)
    of = people * len(kinds)
    spans = {name: wilson(count, of) for name, count in missed.items()}
    table.add_section()
    table.add_row("all", *(f"{missed[name] / of:.1%} ({low:.1%}-{high:.1%})" for name, (low, high) in spans.items()))
    return table


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--people", type=int, default=10_000, help="people whose questions are counted (10000)")
    parser.add_argument("--labelled", type=int, default=300, help="people of each labelled kind (300)")
    parser.add_argument("--full", action="store_true", help="run, kill and resume the real command over 10,000 people")
    args = parser.parse_args()
    if args.full:
        from scan_kill import main as run_full

        run_full(args.people)
        return
    console = Console(width=170)
    scores = scan_people.local_scores()
    designs = Designs()
    crowd = scan_people.crowd(args.people, scores)
    console.print(f"{args.people:,} people; tokens by cl100k_base; the cascade asks about a local risk from {BOUND}")
    console.print(f"and about whoever has a request that the local screen scored {SUSPICIOUS} or more: here, by")
    console.print(f"assumption, {scan_people.SUSPECTED} people of 100; its price is in proportion to that")
    console.print(cost_table(designs.over(crowd), prices(load_litellm())))
    console.print(
        "Batch prices are the provider's; LiteLLM 1.106 has batches for vertex_ai/gemini-…, not for gemini/…."
    )
    for seen in (True, False):
        console.print(missed_table(designs, scores, people=args.labelled, seen=seen))


if __name__ == "__main__":
    main()
