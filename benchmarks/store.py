"""What the store takes to look up and to extend a person's history, at two sizes side by side, in microseconds.

Run: ``python benchmarks/store.py``. It builds its databases in a temporary folder, which takes some minutes and about
3 GB for ten million rows; with ``--folder`` they are kept there and built once. ``--postgres`` adds a PostgreSQL server
started for it, which must be installed. A person has a hundred turns on average, strewn over the table as they would
come in, and a thousand persons share a principal. The sizes take turns at every step: a busy machine slows both.
"""

from __future__ import annotations

import argparse
import random
import secrets
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from statistics import median

from safelight.policy import Action, Decision, Reason
from safelight.request import GenerationRequest, Principal
from safelight.store import Store, open_store
from safelight.verdict import Stage, Verdict

TURNS_EACH = 100
PERSONS_EACH = 1_000
SHOWN = 20
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)

NOTES = {
    "one SELECT of the last 20": "99 at 1M, 153 at 10M (PostgreSQL 15, 1M: 134-145)",
    "history: summary and last 20": "goal <= 200, and 10M <= 2 x 1M",
    "one INSERT, synchronous=NORMAL": "30 at 1M, 64 at 10M",
    "one INSERT, synchronous=FULL": "243-565 (mean 1500-2400); PostgreSQL durable 4000",
    "reserve: insert and history, FULL": "goal <= 250 for insert + lookup, NORMAL: 217 at 10M; FULL 396-718",
    "record: the ruling and counters, FULL": "no figure",
}
"""Rows 19 and 20 of notes/performance.md, microseconds at p50, of bare SQLite with one table and one index. The sums
of insert and lookup are those of its figures at 10M."""

TURN = """
    'req_' || n, 'default', 'key_' || (n % {persons} / {persons_each}), 'person_' || (n % {persons}),
    '{{"prompt": "a lighthouse in the evening light, seen from a boat, oil on canvas, number ' || n || '"}}',
    {created}, CASE WHEN n % 53 = 0 THEN 'block' WHEN n % 29 = 0 THEN 'flag' ELSE 'allow' END,
    CASE WHEN n % 53 = 0 THEN 1.0 WHEN n % 29 = 0 THEN 0.5 ELSE 0.05 END
"""
FILL = "INSERT INTO turns (request_id, tenant, principal, person, texts, created, state, risk) SELECT"
PEOPLE = """
    INSERT INTO people (tenant, principal, person, total, blocked, flagged, last, clean_after)
    SELECT tenant, principal, person, COUNT(*), SUM(CASE state WHEN 'block' THEN 1 ELSE 0 END),
        SUM(CASE state WHEN 'flag' THEN 1 ELSE 0 END), '2026-11-22T11:00:00.000000+00:00',
        MAX(CASE WHEN state IN ('block', 'flag') THEN seq ELSE 0 END)
    FROM turns GROUP BY tenant, principal, person
"""
LAST = """
    SELECT texts, created, state FROM turns WHERE tenant = ? AND principal = ? AND person = ? ORDER BY seq DESC LIMIT 20
"""
ADD = """
    INSERT INTO turns (request_id, tenant, principal, person, texts, created, state) VALUES (?, ?, ?, ?, ?, ?, 'allow')
"""

Step = Callable[[Principal], object]
# A folder that is kept has the rows of earlier runs.
_run = secrets.token_hex(4)
_number = count()


def build_sqlite(path: Path, rows: int) -> None:
    """Make a database of so many turns, past the store: indexes last, and nothing on disk before the end."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    open_store(f"sqlite:///{unfinished}").close()
    created = "'2026-11-22T11:00:00.000000+00:00'"
    turn = TURN.format(persons=persons(rows), persons_each=PERSONS_EACH, created=created)
    with closing(sqlite3.connect(unfinished, isolation_level=None)) as connection:
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -500000", "threads = 2"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        indexes = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'turns' AND sql IS NOT NULL"
        ).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        numbers = f"WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {rows})"
        connection.execute(f"{numbers} {FILL} {turn} FROM c")
        for _, statement in indexes:
            connection.execute(statement)
        connection.execute(PEOPLE)
    Path(f"{unfinished}.lock").unlink(missing_ok=True)
    unfinished.rename(path)


def warm(path: Path) -> None:
    """Read a file once, so that it lies in the system's page cache where it fits, as it does for the notes' figures."""
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass


def persons(rows: int) -> int:
    """Return how many persons have so many turns."""
    return max(1, rows // TURNS_EACH)


def somebody(rows: int) -> Principal:
    """Return one of the persons, any as likely as another."""
    number = random.randrange(persons(rows))
    return Principal(f"key_{number // PERSONS_EACH}", person=f"person_{number}")


def compare(samples: int, steps: Sequence[tuple[int, Step]]) -> list[float]:
    """Return the median microseconds of each size's step; the sizes take turns."""
    taken: list[list[int]] = [[] for _ in steps]
    for turn in range(samples + 20):
        for place, (rows, step) in enumerate(steps):
            who = somebody(rows)
            started = time.perf_counter_ns()
            step(who)
            # The first ones warm up.
            if turn >= 20:
                taken[place].append(time.perf_counter_ns() - started)
    return [median(times) / 1e3 for times in taken]


def reserve(store: Store) -> Step:
    """Return the step that adds a turn and reads what came before it, durably."""
    return lambda who: store.reserve(
        f"new_{_run}_{next(_number)}", GenerationRequest("a small boat", who), at=NOW, limit=SHOWN
    )


def record(store: Store) -> Step:
    """Return the step that rules on a turn that is there, durably."""

    def step(who: Principal) -> None:
        number = next(_number)
        verdict = Verdict("judge", Stage.PROMPT, {"violence": 0.01}, model="m", ms=350.0)
        ruling = (Stage.PROMPT, Action.ALLOW, Reason.CLEAR, (), "sha256:1", (verdict,), NOW)
        store.record(Decision(f"dec_{_run}_{number}", f"req_{number + 1}", *ruling))

    return step


def select(connection: sqlite3.Connection) -> Step:
    """Return the step that the notes measured: one SELECT on a bare connection."""
    return lambda who: connection.execute(LAST, (who.tenant, who.id, who.person)).fetchall()


def insert(connection: sqlite3.Connection) -> Step:
    """Return the other one: one INSERT, committed."""
    return lambda who: connection.execute(
        ADD,
        (f"new_{_run}_{next(_number)}", who.tenant, who.id, who.person, '{"prompt": "a small boat"}', NOW.isoformat()),
    )


def measure_store(name: str, samples: int, stores: Sequence[tuple[int, Store]]) -> None:
    """Print what the store itself takes."""
    shown = [(rows, lambda who, store=store: store.history(who, limit=SHOWN)) for rows, store in stores]
    print_line(name, "history: summary and last 20", compare(samples, shown))
    reserved = [(rows, reserve(store)) for rows, store in stores]
    print_line(name, "reserve: insert and history, FULL", compare(samples, reserved))
    recorded = [(rows, record(store)) for rows, store in stores]
    print_line(name, "record: the ruling and counters, FULL", compare(samples, recorded))


def measure_bare(samples: int, paths: Sequence[tuple[int, Path]]) -> None:
    """Print what the notes measured, on the same files: one statement on a bare connection."""
    bare = [(rows, sqlite3.connect(path, isolation_level=None)) for rows, path in paths]
    print_line("SQLite", "one SELECT of the last 20", compare(samples, [(rows, select(each)) for rows, each in bare]))
    for level in ("NORMAL", "FULL"):
        for _, each in bare:
            each.execute("PRAGMA journal_mode = WAL").fetchall()
            each.execute(f"PRAGMA synchronous = {level}")
        taken = compare(samples, [(rows, insert(each)) for rows, each in bare])
        print_line("SQLite", f"one INSERT, synchronous={level}", taken)
    for _, each in bare:
        each.close()


def print_line(database: str, what: str, taken: Sequence[float]) -> None:
    """Print one line of the table."""
    figures = "".join(f"{us:>10.0f}" for us in taken)
    print(f"{database:<11}{what:<39}{figures}{taken[-1] / taken[0]:>7.2f}  {NOTES[what]}", flush=True)


@contextmanager
def postgres(sizes: Sequence[int]) -> Iterator[list[tuple[int, Store]]]:
    """Start a server, fill a database of each size, and open a store on each."""
    sys.path.append(str(Path(__file__).parent.parent / "tests"))
    from postgres_server import PostgresServer

    with PostgresServer() as server:
        stores: list[tuple[int, Store]] = []
        for rows in sizes:
            url = server.make_database()
            stores.append((rows, open_store(url)))
            created = "TIMESTAMPTZ '2026-11-22T11:00:00Z'"
            turn = TURN.format(persons=persons(rows), persons_each=PERSONS_EACH, created=created)
            server.execute(f"{FILL} {turn} FROM generate_series(1, {rows}) AS n", url=url)
            server.execute(PEOPLE, url=url)
            server.execute("VACUUM ANALYZE", url=url)
        yield stores
        for _, store in stores:
            store.close()


def main() -> None:
    """Build the databases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs=2, default=[1_000_000, 10_000_000], metavar="N")
    parser.add_argument("--samples", type=int, default=1_000)
    parser.add_argument("--folder", type=Path, help="where the SQLite databases are kept")
    parser.add_argument("--postgres", action="store_true", help="measure PostgreSQL too")
    options = parser.parse_args()
    random.seed(3)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        paths = [(rows, folder / f"turns-{rows}.db") for rows in options.rows]
        for rows, path in paths:
            if not path.exists():
                started = time.perf_counter()
                build_sqlite(path, rows)
                size = path.stat().st_size / 1e9
                print(f"built {rows} rows in {time.perf_counter() - started:.0f} s, {size:.2f} GB", flush=True)
            warm(path)
        head = "".join(f"{rows:>10}" for rows in options.rows)
        print(f"{'p50 in µs':<50}{head}{'ratio':>7}  notes (performance.md, rows 19 and 20)", flush=True)
        measure_bare(options.samples, paths)
        stores = [(rows, open_store(f"sqlite:///{path}")) for rows, path in paths]
        measure_store("SQLite", options.samples, stores)
        for _, store in stores:
            store.close()
    if options.postgres:
        with postgres(options.rows) as stores:
            measure_store("PostgreSQL", options.samples, stores)


if __name__ == "__main__":
    main()
