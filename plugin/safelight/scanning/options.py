"""The options of ``safelight scan``, and how it explains itself."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .plan import DesignName

POLICYS = object()
"""What ``--cascade`` is without a number: the policy's own. No number that is typed can be mistaken for it."""

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

Its calls are in the books (safelight spending) and count against the day's limit, [spending] usd_per_day, together with
all others: when that is reached the scan stops, to go on with --resume on another day. A batch's calls count when their
answers are fetched, so the limit keeps further batches from being sent, not one that is on its way.

--batch uses the provider's batch interface, at about half the price, within 24 hours, where LiteLLM has it: openai/…,
azure/… and vertex_ai/…. gemini/… (the Gemini API) has none in LiteLLM 1.106; take vertex_ai/… for batches of Gemini.

exit codes: 0 everybody was judged; 2 a setting or argument is wrong; 3 some people are not judged (failures, the
budget, the day's limit, an unreachable provider): see the list, and --resume; 130 interrupted.
"""


def add_options(commands: Any) -> argparse.ArgumentParser:
    """Add the command's parser to a parser's subcommands, and return it."""
    scan: argparse.ArgumentParser = commands.add_parser(
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
        const=POLICYS,
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
    what.add_argument(
        "--review",
        type=Path,
        metavar="FILE",
        help="write whom to look at, as .csv or .jsonl; with --resume also for a finished scan, without a call",
    )
    what.add_argument("--with-texts", action="store_true", help="with the newest prompts of those people")
    what.add_argument(
        "--apply",
        action="store_true",
        help="put on hold the principals of people found in a category that the policy blocks, until a person"
        " releases them; a hold is on the whole principal (an API key, say), not on one of its users",
    )
    what.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return scan
