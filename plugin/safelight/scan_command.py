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
from dataclasses import dataclass
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
from .scanning.crowd import Crowd
from .scanning.ledger import Ledger
from .scanning.pace import Pace
from .scanning.plan import DesignName, Plan, begin
from .scanning.provider_batches import ProviderBatches
from .scanning.report import Totals, blocking, check_review, describe, to_review, total, write_review
from .scanning.runner import Budget, Runner, Stop
from .screens import PROMPT_SCREENS
from .settings import DEFAULT_JUDGE, Settings, read_settings
from .store import Store, open_store
from .store.scans import Scan, Scans
from .store.strikes import Strikes

ALL_JUDGED, _, WRONG, NOT_ALL_JUDGED = range(4)
INTERRUPTED = 130

_DESCRIPTION = """\
Ask a language model about the course of each person's requests, one call a person, and say what it cost.

The model is the one that [[prompt_screens]] use = "llm_judge" names in safelight.toml, or --model. A person counts as
clear only by an answer that says so. Nobody's standing changes, unless --apply is given.

designs:
  one-token  one code as the answer, and a local summary in place of the raw history: what costs least for a call a
             person. It gives up the score (a finding counts as 1; --logprobs brings scores back where the provider
             tells them), the copied nonce, and requests that are neither recent nor risky to the local screens.
  json       the newest 20 requests raw, with the policy's full descriptions, and a score in every category.
  packed     20 people in one call, in random order, each in a member of their own; whoever is found, missing, risky
             to the local screens, or in a sample of the others is asked about alone. Texts of one person could steer
             what is said of another, so it is for scans only.
"""

_EPILOG = """\
A scan may be killed at any moment. What was answered is on disk; --resume asks nobody twice. At most the calls that
were on their way are unknown: they are listed as such, and asked again only with --retry-unknown.

--batch uses the provider's batch interface, at about half the price, within 24 hours, where LiteLLM has it: openai/…,
azure/… and vertex_ai/…. gemini/… (the Gemini API) has none in LiteLLM 1.106; take vertex_ai/… for batches of Gemini.

exit codes: 0 everybody was judged; 2 a setting or argument is wrong; 3 some people are not judged (failures, the
budget, an unreachable provider): see the list, and --resume; 130 interrupted.
"""


def add(commands: Any) -> None:
    """Add the command to a parser's subcommands."""
    scan = commands.add_parser(
        "scan",
        help="ask about everybody's course of requests, and say what it cost",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    who = scan.add_argument_group("who")
    who.add_argument("--since", type=float, metavar="DAYS", help="only people who asked for something since")
    who.add_argument("--limit", type=int, metavar="N", help="only the first N people")
    who.add_argument(
        "--cascade",
        type=float,
        nargs="?",
        const=-1.0,
        metavar="RISK",
        help="only people whose local risk, when they last asked, reaches RISK, from 0 to 1 (without a number, the"
        " policy's cascade.quiet_below), or who have a request that was blocked or that a local screen scored 0.5 or"
        " more, however old. The others are left to the local screens, with all that those miss",
    )
    how = scan.add_argument_group("how")
    how.add_argument("--model", help="LiteLLM's name of the model, in place of the configured judge's")
    how.add_argument("--api-base", metavar="URL", help="where the provider is")
    how.add_argument(
        "--served-model",
        action="append",
        default=[],
        metavar="NAME",
        help="a name under which the provider may answer, beside the asked one; answers of others do not count",
    )
    how.add_argument("--design", choices=[str(name) for name in DesignName], default=str(DesignName.ONE_TOKEN))
    how.add_argument("--logprobs", action="store_true", help="one-token: take scores from the first token")
    how.add_argument("--batch", action="store_true", help="through the provider's batch interface; see below")
    how.add_argument("--batch-size", type=int, default=10_000, metavar="N", help="people a batch (10000)")
    how.add_argument("--poll", type=float, default=60.0, metavar="SECONDS", help="between looks at a batch (60)")
    how.add_argument("--concurrency", type=int, default=8, metavar="N", help="calls on their way at a time (8)")
    how.add_argument("--rpm", type=float, metavar="N", help="calls a minute at most")
    how.add_argument("--tpm", type=float, metavar="N", help="tokens a minute at most")
    how.add_argument("--deadline", type=float, default=30.0, metavar="SECONDS", help="of a call (30)")
    how.add_argument("--budget-usd", type=float, metavar="USD", help="stop before the scan costs more; resumable")
    going_on = scan.add_argument_group("going on")
    which = going_on.add_mutually_exclusive_group()
    which.add_argument("--resume", action="store_true", help="go on with the unfinished scan")
    which.add_argument("--restart", action="store_true", help="begin anew, and leave an unfinished scan as it is")
    going_on.add_argument("--retry-unknown", action="store_true", help="ask again whose answer was lost in a kill")
    going_on.add_argument("--retry-failed", action="store_true", help="ask again whose question failed")
    what = scan.add_argument_group("what comes of it")
    what.add_argument("--review", type=Path, metavar="FILE", help="write whom to look at, as .csv or .jsonl")
    what.add_argument("--with-texts", action="store_true", help="with the newest prompts of those people")
    what.add_argument(
        "--apply",
        action="store_true",
        help="put on hold the principals of people found in a category that the policy blocks, until a person"
        " releases them; a hold is on the whole principal (an API key, say), not on one of its users",
    )
    what.add_argument("--json", action="store_true", help="print JSON instead of a table")
    scan.set_defaults(run=run)


@dataclass(frozen=True, slots=True)
class _Judge:
    """How the judge is reached."""

    model: str
    api_base: str | None
    api_key: str | None
    served: frozenset[str]
    usd_per_million: Sequence[float] | None


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    settings = read_settings(args.config)
    judge = _judge(settings, args)
    plan = _plan(args, settings, judge)
    _check(args, plan)
    with closing(open_store(settings.store_url)) as store:
        return _scan(args, settings, judge, plan, store)


def _scan(args: argparse.Namespace, settings: Settings, judge: _Judge, plan: Plan, store: Store) -> int:
    policy, scans, started = settings.policy, Scans(store), time.monotonic()
    chat = LiteLLMChat(
        judge.model,
        api_base=judge.api_base,
        api_key=judge.api_key,
        deadline_s=args.deadline,
        usd_per_million=judge.usd_per_million,
    )
    if args.budget_usd is not None and not chat.is_priced:
        raise ConfigError(f"--budget-usd: it is not known what {judge.model} costs; set the judge's usd_per_million")
    scan = begin(
        scans,
        plan,
        policy,
        at=_now(),
        resume=args.resume,
        restart=args.restart,
        again=args.retry_unknown or args.retry_failed,
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
                budget=Budget(args.budget_usd, total(scans, scan, policy).cost_usd or 0.0),
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
    if args.review:
        write_review(args.review, listed, store=store, policy=policy, with_texts=args.with_texts)
    if args.json:
        told = {"scan": scan.id, "ended": str(why), "seconds": round(seconds, 3), **totals.as_dict(), "held": held}
        print(json.dumps(told | {"review": str(args.review) if args.review else None, "listed": len(listed)}))
    else:
        _print(scan, totals, seconds, settings, listed=len(listed), review=args.review, held=held)
    for line in _advice(why, trouble, totals):
        print(f"safelight: {line}", file=sys.stderr)
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


def _advice(why: Stop, trouble: str, totals: Totals) -> Iterator[str]:
    if why is Stop.PROVIDER:
        yield f"the provider does not answer ({trouble}); nobody else is asked"
    if why is Stop.BUDGET:
        yield "the budget is reached; nobody else is asked"
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


def _judge(settings: Settings, args: argparse.Namespace) -> _Judge:
    name = PROMPT_SCREENS["llm_judge"]
    parts = [part for part in settings.prompt_screens if PROMPT_SCREENS.get(part.use, part.use) == name]
    if not parts and not args.model:
        raise ConfigError(f"--model: no model to ask: {settings.judge_note}; or name one here")
    options = parts[0].options if parts else {}
    configured = str(options.get("model", DEFAULT_JUDGE))
    model = str(args.model or configured)
    # An address and a key belong to a provider, not to a model.
    theirs = options if model.partition("/")[0] == configured.partition("/")[0] else {}
    served = options.get("served_models", ()) if model == configured else ()
    prices = options.get("usd_per_million") if model == configured else None
    return _Judge(
        model,
        args.api_base or theirs.get("api_base"),
        theirs.get("api_key"),
        frozenset({model.partition("/")[2] or model, *served, *args.served_model}),
        prices,
    )


def _plan(args: argparse.Namespace, settings: Settings, judge: _Judge) -> Plan:
    cascade = settings.policy.cascade.quiet_below if args.cascade == -1.0 else args.cascade
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
    if (args.retry_unknown or args.retry_failed) and not args.resume:
        raise ConfigError("--retry-unknown and --retry-failed: need --resume")
    if args.review:
        check_review(args.review)
    if plan.batch:
        if args.retry_unknown:
            raise ConfigError("--retry-unknown: of a batch nothing stays unknown; --resume looks where it is")
        check_batch(plan.model, size=args.batch_size, poll_s=args.poll)
        if args.budget_usd is not None:
            raise ConfigError("--budget-usd: a batch's price is known only when it is done; use --limit with --batch")


def _now() -> datetime:
    return datetime.now(UTC)
