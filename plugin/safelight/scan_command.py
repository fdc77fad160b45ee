"""The command ``safelight scan``: a sweep over people, resumable, with its price."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from .backends.litellm_chat import LiteLLMChat
from .errors import ConfigError
from .scanning.batch import BatchScan, check_batch
from .scanning.books import scan_calls
from .scanning.budget import Budget, Stop
from .scanning.crowd import Crowd
from .scanning.judge import Judge, judge_of
from .scanning.ledger import Ledger
from .scanning.options import POLICYS, add_options
from .scanning.pace import Pace
from .scanning.plan import DesignName, Plan, begin
from .scanning.provider_batches import ProviderBatches
from .scanning.report import Totals, blocking, describe, to_review, total
from .scanning.review import check_review, write_review
from .scanning.runner import Runner
from .settings import Settings, read_settings
from .spending import Spending
from .store import Store, open_store
from .store.calls import Calls
from .store.scans import Scan, Scans
from .store.strikes import Strikes

ALL_JUDGED, _, WRONG, NOT_ALL_JUDGED = range(4)
INTERRUPTED = 130


def add(commands: Any) -> None:
    """Add the command to a parser's subcommands."""
    add_options(commands).set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    settings = read_settings(args.config)
    judge = judge_of(settings, args)
    plan = _plan(args, settings, judge)
    _check(args, plan)
    with closing(open_store(settings.store_url)) as store:
        return _scan(args, settings, judge, plan, store)


def _scan(args: argparse.Namespace, settings: Settings, judge: Judge, plan: Plan, store: Store) -> int:
    policy, scans, started = settings.policy, Scans(store), time.monotonic()
    if args.review and args.resume and not _again(args) and scans.unfinished() is None:
        # Only the list of a finished scan: nobody is asked.
        scan = begin(scans, plan, policy, at=_now(), resume=True, again=True)
        return _finish(args, settings, store, scan, Stop.DONE, "", 0.0)
    spending = Spending(Calls(store), usd_per_day=settings.spending.usd_per_day, clock=_now)
    calls = scan_calls(spending.for_purpose("scan"), model=judge.model, clock=_now)
    chat = LiteLLMChat(
        judge.model,
        api_base=judge.api_base,
        api_key=judge.api_key,
        deadline_s=args.deadline,
        usd_per_million=judge.usd_per_million,
    )
    if args.budget_usd is not None and not chat.is_priced:
        raise ConfigError(f"--budget-usd: it is not known what {judge.model} costs; set the judge's usd_per_million")
    spending.require_price(judge.model, is_priced=chat.is_priced)
    scan = begin(
        scans,
        plan,
        policy,
        at=_now(),
        resume=args.resume,
        restart=args.restart,
        again=_again(args),
    )
    crowd = Crowd(
        store,
        scan,
        plan,
        policy,
        now=_now(),
        retry_unknown=args.retry_unknown,
        retry_failed=args.retry_failed,
    )
    alone, *packed = plan.designs(policy, seed=scan.id)
    with _progress(crowd.count(), quiet=args.json) as advance:
        work: Runner | BatchScan
        if plan.batch:
            work = BatchScan(
                scans=scans,
                scan=scan,
                crowd=crowd,
                design=alone,
                batches=ProviderBatches(judge.model, api_base=judge.api_base, api_key=judge.api_key),
                served=judge.served,
                calls=calls,
                size=args.batch_size,
                poll_s=args.poll,
                clock=_now,
                progress=advance,
            )
        else:
            work = Runner(
                chat=chat,
                crowd=crowd,
                ledger=Ledger(scans, scan.id),
                alone=alone,
                packed=packed[0] if packed else None,
                served=judge.served,
                concurrency=args.concurrency,
                pace=Pace(rpm=args.rpm, tpm=args.tpm),
                budget=Budget(
                    args.budget_usd,
                    total(scans, scan, policy).cost_usd or 0.0,
                    usd_per_million=judge.prices() if chat.is_priced else None,
                ),
                calls=calls,
                recheck=plan.recheck,
                clock=_now,
                progress=advance,
            )
        why = asyncio.run(_until_interrupted(work))
    if why is Stop.DONE:
        scans.finish(scan.id, at=_now())
    return _finish(args, settings, store, scan, why, work.trouble, time.monotonic() - started)


async def _until_interrupted(work: Runner | BatchScan) -> Stop:
    def interrupt() -> None:
        print("safelight: stopping; calls on their way are waited for", file=sys.stderr)
        work.stop()
        # A second one is meant: it ends the program as usual.
        loop.remove_signal_handler(signal.SIGINT)

    loop = asyncio.get_running_loop()
    # Not every platform, and only the main thread, can.
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
        loop.add_signal_handler(signal.SIGINT, interrupt)
    return await work.run()


def _finish(
    args: argparse.Namespace, settings: Settings, store: Store, scan: Scan, why: Stop, trouble: str, seconds: float
) -> int:
    scans, policy = Scans(store), settings.policy
    totals = total(scans, scan, policy)
    listed = to_review(scans, scan, policy)
    held = _hold(store, scans, [finding.key for finding in listed if blocking(finding, policy)]) if args.apply else []
    if args.json:
        told = {"scan": scan.id, "ended": str(why), "seconds": round(seconds, 3), **totals.as_dict(), "held": held}
        print(json.dumps(told | {"review": str(args.review) if args.review else None, "listed": len(listed)}))
    else:
        _print(scan, totals, seconds, settings, listed=len(listed), review=args.review, held=held)
    for line in _advice(why, trouble, totals, settings):
        print(f"safelight: {line}", file=sys.stderr)
    if args.review:
        # Last: whatever is wrong with the file, the figures were told, and --resume --review writes the list again.
        write_review(args.review, listed, store=store, policy=policy, with_texts=args.with_texts)
    if why is Stop.INTERRUPTED:
        return INTERRUPTED
    return ALL_JUDGED if why is Stop.DONE and not totals.unjudged else NOT_ALL_JUDGED


def _hold(store: Store, scans: Scans, keys: Sequence[tuple[str, str, str]]) -> list[str]:
    strikes = Strikes(store)
    held = []
    for tenant, principal, person in keys:
        if strikes.held(tenant, principal) is None:
            newest = scans.last_decisions((tenant, principal, person), limit=1)
            strikes.hold(tenant, principal, at=_now(), decision_id=newest[0] if newest else "")
            held.append(principal)
    return held


def _advice(why: Stop, trouble: str, totals: Totals, settings: Settings) -> Iterator[str]:
    if why is Stop.PROVIDER:
        yield f"the provider does not answer ({trouble}); nobody else is asked"
    if why is Stop.BUDGET:
        is_small = not totals.judged and not totals.tokens_in
        yield f"the budget is {'too small for one call' if is_small else 'reached'} ({trouble}); nobody else is asked"
    if why is Stop.SPENDING:
        limit = settings.spending.usd_per_day
        yield f"the day's limit is reached (spending.usd_per_day = {limit}); nobody else is asked"
    if why is not Stop.DONE:
        yield "go on with: safelight scan --resume, and the same options"
    if totals.failed:
        yield f"{sum(totals.failed.values())} people are not judged: --resume --retry-failed asks about them again"
    if totals.unknown:
        yield f"{totals.unknown} people may have been asked about in vain: --resume --retry-unknown asks again"


def _print(
    scan: Scan,
    totals: Totals,
    seconds: float,
    settings: Settings,
    *,
    listed: int,
    review: Path | None,
    held: Sequence[str],
) -> None:
    table = Table(title=scan.id, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in describe(totals, seconds=seconds, policy=settings.policy):
        table.add_row(escape(name), escape(value))
    if review:
        table.add_row("on the review list", f"{listed:,} in {escape(str(review))}")
    if held:
        table.add_row("principals put on hold", f"{len(held):,}")
    Console().print(table)


@contextmanager
def _progress(people: int, *, quiet: bool) -> Iterator[Any]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True) as bar:
        task = bar.add_task("people", total=people)
        yield lambda count: bar.advance(task, count)


def _plan(args: argparse.Namespace, settings: Settings, judge: Judge) -> Plan:
    cascade = settings.policy.cascade.quiet_below if args.cascade is POLICYS else args.cascade
    return Plan(
        model=judge.model,
        design=DesignName(args.design),
        cascade=cascade,
        since_days=args.since,
        limit=args.limit,
        logprobs=args.logprobs,
        batch=args.batch,
    )


def _check(args: argparse.Namespace, plan: Plan) -> None:
    if args.concurrency < 1:
        raise ConfigError(f"--concurrency: must be at least 1, not {args.concurrency}")
    if args.budget_usd is not None and not args.budget_usd > 0:
        raise ConfigError(f"--budget-usd: must be above 0, not {args.budget_usd!r}")
    if args.with_texts and not args.review:
        raise ConfigError("--with-texts: needs --review FILE")
    if _again(args) and not args.resume:
        raise ConfigError("--retry-unknown and --retry-failed: need --resume")
    if args.review:
        check_review(args.review)
    if plan.batch:
        if args.retry_unknown:
            raise ConfigError("--retry-unknown: of a batch nothing stays unknown; --resume looks where it is")
        check_batch(plan.model, size=args.batch_size, poll_s=args.poll)
        if args.budget_usd is not None:
            raise ConfigError("--budget-usd: a batch's price is known only when it is done; use --limit with --batch")


def _again(args: argparse.Namespace) -> bool:
    return bool(args.retry_unknown or args.retry_failed)


def _now() -> datetime:
    return datetime.now(UTC)
