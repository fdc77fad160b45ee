"""The list of people to look at, as a file that only its owner reads."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from unicodedata import normalize

from ..errors import ConfigError
from ..policy import Policy
from ..request import Principal
from ..store import Store
from ..store.scans import ASKED, Finding, Scans
from ..verdict import Outcome
from .report import reached
from .summary import newest_texts

_TEXTS = 5
_FORMULA = frozenset("=+-@")
_CONTROLS = frozenset("\t\r\n")
# What str.strip takes for a blank, and what shows as nothing at all.
_BLANKS = "".join(map(chr, range(33))) + "\x7f\x85\xa0\xad\u1680\u180e\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
_BLANKS += "".join(map(chr, range(0x2000, 0x2010)))


def write_review(
    file: Path, findings: Iterable[Finding], *, store: Store, policy: Policy, with_texts: bool = False
) -> int:
    """Write the review list, and return how many people are on it.

    Args:
        file: Where to; its ending says how: ``.csv``, or ``.jsonl`` for one JSON object a line. Readable by its owner
            only.
        findings: In the order in which they are to be looked at.
        store: Whence decisions and texts are read.
        policy: Which scores count.
        with_texts: Whether the newest requests' texts are written too. Without it the list holds no prompt.

    Raises:
        ConfigError: If the ending is another, or the file cannot be written.
    """
    lines = (_line(finding, store, policy, with_texts=with_texts) for finding in findings)
    with _opened(file) as out:
        out.truncate(0)
        return _write_csv(out, lines, with_texts) if file.suffix == ".csv" else _write_json(out, lines)


def check_review(file: Path) -> None:
    """Make sure that a review list can be written, before anything is paid for. A list that is there stays as it is.

    Raises:
        ConfigError: If the file's name asks for no known form, or the file cannot be written.
    """
    is_new = not os.path.lexists(file)
    with _opened(file):
        pass
    if is_new:
        file.unlink(missing_ok=True)


@contextmanager
def _opened(file: Path) -> Iterator[IO[str]]:
    if file.suffix not in (".csv", ".jsonl"):
        raise ConfigError(f"--review: {file} must end in .csv or .jsonl")
    try:
        # No link, which another could have put there; and no pipe is waited for.
        number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        with open(number, "w", encoding="utf-8", newline="") as out:
            # Who is listed here was found to have asked for something: nobody else on the machine needs to read it.
            os.fchmod(number, 0o600)
            yield out
    except OSError as error:
        raise ConfigError(f"--review: cannot write {file}: {error.strerror}") from error


def _line(finding: Finding, store: Store, policy: Policy, *, with_texts: bool) -> dict[str, Any]:
    line: dict[str, Any] = {
        "tenant": finding.tenant,
        "principal": finding.principal,
        "person": finding.person,
        "outcome": finding.outcome if finding.outcome != ASKED else "unknown",
        "categories": list(reached(finding, policy)) if finding.outcome == Outcome.OK else [],
        "scores": {name: round(score, 3) for name, score in finding.scores.items()},
        "reason": finding.reason,
        "prompts": finding.prompts,
        "decisions": list(Scans(store).last_decisions(finding.key)),
        "at": finding.at.isoformat(timespec="seconds"),
    }
    if with_texts:
        who = Principal(finding.principal, finding.person, finding.tenant)
        line["texts"] = newest_texts(store.history(who, limit=_TEXTS).turns, _TEXTS)
    return line


def _write_json(out: IO[str], lines: Iterator[dict[str, Any]]) -> int:
    count = 0
    for line in lines:
        out.write(json.dumps(line, ensure_ascii=False) + "\n")
        count += 1
    return count


def _write_csv(out: IO[str], lines: Iterator[dict[str, Any]], with_texts: bool) -> int:
    names = ["tenant", "principal", "person", "outcome", "categories", "scores", "reason", "prompts", "decisions", "at"]
    table = csv.writer(out)
    table.writerow(names := [*names, *(["texts"] if with_texts else [])])
    count = 0
    for line in lines:
        table.writerow([_cell(line[name]) for name in names])
        count += 1
    return count


def _cell(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = " ".join(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    # Names of people are theirs to choose, and a spreadsheet runs a cell that begins like a formula; some do not mind
    # blanks before it, nor full width.
    begins = normalize("NFKC", text.lstrip(_BLANKS)[:1])
    return f"'{text}" if begins in _FORMULA or text[:1] in _CONTROLS else text
