from __future__ import annotations

import csv
import json
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from fakes import sentinel_policy
from safelight.errors import ConfigError
from safelight.policy import Policy
from safelight.rules import EnforcementRule
from safelight.scanning.report import blocking, describe, reached, to_review, total
from safelight.scanning.review import check_review, write_review
from safelight.store.scans import ASKED, Finding, Scan, Scans
from safelight.store.sqlite import SQLiteStore
from safelight.verdict import Outcome
from scan_crowd import NOW, Said, Someone, populate

POLICY = sentinel_policy()


def finding(person: str, outcome: str = Outcome.OK, reason: str = "", **scores: float) -> Finding:
    return Finding(
        "default",
        "key_a",
        person,
        at=NOW,
        outcome=outcome,
        scores=scores,
        reason=reason,
        tokens_in=100,
        tokens_out=1,
        cost_usd=0.00004,
    )


FINDINGS = [
    finding("a clear", reason="clear"),
    finding("b failed", Outcome.UNREACHABLE, "http_429"),
    finding("c refused", Outcome.REFUSED, "blocked_safety"),
    finding("d flagged", teapots=1.0),
    finding("e likely", sentinel=0.7),
    finding("f sure", sentinel=0.9),
    finding("g unlikely", sentinel=0.2),
    finding("h grave", Outcome.RESTRICTED, "blocked_prohibited_content"),
    finding("i grave pack", Outcome.RESTRICTED, "blocked_prohibited_content_in_pack"),
    finding("j unknown", ASKED),
    finding("k local", Outcome.SKIPPED, "local"),
]


@pytest.fixture
def store() -> Iterator[SQLiteStore]:
    with closing(SQLiteStore(":memory:")) as opened:
        yield opened


@pytest.fixture
def scan(store: SQLiteStore) -> Scan:
    scan = Scans(store).begin({}, at=NOW)
    Scans(store).write(scan.id, FINDINGS)
    return scan


def test_a_scan_is_added_up(store: SQLiteStore, scan: Scan) -> None:
    totals = total(Scans(store), scan, POLICY)
    assert (totals.judged, totals.local, totals.unknown, totals.unjudged) == (8, 1, 1, 2)
    assert totals.found == {"teapots": 1, "sentinel": 2}
    assert totals.failed == {"http_429": 1}
    assert totals.refused == {
        "blocked_safety": 1,
        "blocked_prohibited_content": 1,
        "blocked_prohibited_content_in_pack": 1,
    }
    assert (totals.tokens_in, totals.tokens_out) == (1_100, 11)
    assert totals.cost_usd == pytest.approx(11 * 0.00004)
    assert totals.usd_per_million == pytest.approx(11 * 0.00004 / 9 * 1e6)
    assert ("people judged", "8") in describe(totals, seconds=1.0, policy=POLICY)


def test_without_a_price_none_is_made_up(store: SQLiteStore) -> None:
    scan = Scans(store).begin({}, at=NOW)
    Scans(store).write(scan.id, [replace(FINDINGS[0], cost_usd=None)])
    totals = total(Scans(store), scan, POLICY)
    assert (totals.cost_usd, totals.usd_per_million) == (None, None)
    assert any("no price" in value for _, value in describe(totals, seconds=1.0, policy=POLICY))


def test_the_review_list_begins_with_the_gravest_and_ends_with_whom_nobody_judged(
    store: SQLiteStore, scan: Scan
) -> None:
    listed = [one.person[0] for one in to_review(Scans(store), scan, POLICY)]
    assert listed == ["h", "i", "f", "e", "d", "c", "b", "j"]


def test_only_a_blocked_category_or_the_gravest_refusal_of_one_person_holds(store: SQLiteStore, scan: Scan) -> None:
    assert [one.person[0] for one in FINDINGS if blocking(one, POLICY)] == ["e", "f", "h"]
    lenient = replace(POLICY, enforcement=EnforcementRule.off())
    assert [one.person[0] for one in FINDINGS if blocking(one, lenient)] == ["e", "f"]


def test_the_policys_course_threshold_decides_what_is_found() -> None:
    strict = replace(POLICY, course=replace(POLICY.course, threshold=0.8))
    assert [bool(reached(one, policy)) for one in FINDINGS[4:6] for policy in (POLICY, strict)] == [
        True,
        False,
        True,
        True,
    ]


def review(store: SQLiteStore, file: Path, policy: Policy = POLICY, *, with_texts: bool = False) -> str:
    people = [Someone('=HYPERLINK("x")', [Said("zorblax soup", 2), Said("tea", 1)])]
    populate(store, people, now=NOW)
    write_review(file, [finding('=HYPERLINK("x")', sentinel=0.9)], store=store, policy=policy, with_texts=with_texts)
    return file.read_text("utf-8")


def test_a_table_for_a_spreadsheet_runs_no_formula_that_a_person_chose_as_a_name(
    store: SQLiteStore, tmp_path: Path
) -> None:
    (row,) = csv.DictReader(review(store, tmp_path / "review.csv").splitlines())
    assert row["person"] == '\'=HYPERLINK("x")'
    assert (row["categories"], row["scores"]) == ("sentinel", '{"sentinel": 0.9}')


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_the_list_holds_prompts_only_if_asked_and_only_its_owner_reads_it(
    store: SQLiteStore, tmp_path: Path, form: str
) -> None:
    file = tmp_path / f"review.{form}"
    assert "soup" not in review(store, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_texts_are_the_newest_requests(store: SQLiteStore, tmp_path: Path) -> None:
    line = json.loads(review(store, tmp_path / "review.jsonl", with_texts=True))
    assert line["texts"] == [{"prompt": "zorblax soup"}, {"prompt": "tea"}]
    assert line["person"] == '=HYPERLINK("x")'


@pytest.mark.parametrize("blank", ["\n", " ", "\u00a0", "\u200b", "\ufeff"])
def test_blanks_before_a_formula_do_not_let_it_run(store: SQLiteStore, tmp_path: Path, blank: str) -> None:
    found = [finding(f"{blank}{sign}1", sentinel=0.9) for sign in ("=", "+", "-", "@", "＝")]
    write_review(tmp_path / "review.csv", found, store=store, policy=POLICY)
    with (tmp_path / "review.csv").open(encoding="utf-8", newline="") as file:
        assert all(row["person"].startswith("'") for row in csv.DictReader(file))


def test_a_list_in_place_of_an_open_file_is_closed_to_others_and_a_link_is_not_followed(
    store: SQLiteStore, tmp_path: Path
) -> None:
    file, link = tmp_path / "review.csv", tmp_path / "link.csv"
    file.write_text("tea " * 999, "utf-8")
    file.chmod(0o666)
    assert review(store, file).startswith("tenant,")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "tea" not in file.read_text("utf-8")
    link.symlink_to(file)
    with pytest.raises(ConfigError, match="cannot write"):
        write_review(link, [], store=store, policy=POLICY)


def test_looking_whether_a_list_can_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    old = tmp_path / "old.csv"
    old.write_text("tea", "utf-8")
    check_review(old)
    check_review(tmp_path / "new.csv")
    assert old.read_text("utf-8") == "tea"
    assert list(tmp_path.iterdir()) == [old]


def test_a_list_that_cannot_be_written_is_said_so(store: SQLiteStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.csv or \.jsonl"):
        write_review(tmp_path / "review.txt", [], store=store, policy=POLICY)
    with pytest.raises(ConfigError, match="cannot write"):
        write_review(tmp_path / "nowhere" / "review.csv", [], store=store, policy=POLICY)
