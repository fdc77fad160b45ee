"""The command line: ``safelight screen``, ``scan``, ``demo``, ``keys``, ``config`` and more, and what packages add.

Exit codes: 0 passes, 1 blocked, 2 a setting or argument is wrong, 3 screening is not possible now.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from . import evaluate_command, moderation_command, rulings_command, scan_command, screens_command
from .config import Settings, build, build_guard, read_settings
from .encoding import Encoded, decode_picture, encode_raw
from .errors import ConfigError, InvalidRequest, SafelightError
from .guard import Guard
from .normalise import evident
from .picture_texts import texts_of_file
from .policy import Decision, Policy
from .request import GenerationRequest, Principal, check_faithful
from .store import open_store

PASSES, BLOCKED, WRONG, UNAVAILABLE = range(4)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING, stream=sys.stderr)
    if not sys.stderr.isatty():
        # Bars that nobody watches fill logs. Read by transformers and the hub's library when they are imported.
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        return int(args.run(args))
    except (ConfigError, InvalidRequest) as error:
        print(f"safelight: {error}", file=sys.stderr)
        return WRONG
    except SafelightError as error:
        print(f"safelight: {error}", file=sys.stderr)
        return UNAVAILABLE
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read has read enough, as ``head`` does. Python would fail once more when it empties its buffer.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="safelight", description="A safety proxy for image generation.")
    parser.add_argument("--version", action="version", version=f"safelight {version('safelight')}")
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="the configuration, or the name of one that ships, as harmless; by default safelight.toml if it is there",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_screen(commands)
    _add_keys(commands)
    _add_config(commands)
    moderation_command.add(commands)
    rulings_command.add(commands)
    scan_command.add(commands)
    evaluate_command.add(commands)
    screens_command.add(commands)
    demo = commands.add_parser("demo", help="serve the page and the images endpoint together, on loopback")
    demo.set_defaults(run=_demo)
    for entry in sorted(entry_points(group="safelight.commands"), key=lambda entry: entry.name):
        entry.load()(commands)
    return parser


def _add_screen(commands: Any) -> None:
    screen = commands.add_parser("screen", help="judge a prompt or picture files, and record nothing")
    kinds = screen.add_subparsers(title="what", metavar="WHAT", required=True)
    prompt = kinds.add_parser("prompt", help="judge one prompt")
    prompt.add_argument("text")
    prompt.add_argument("--negative-prompt", metavar="TEXT")
    prompt.set_defaults(run=_screen_prompt)
    image = kinds.add_parser("image", help="judge pictures")
    image.add_argument("files", nargs="+", metavar="FILE", type=Path)
    image.add_argument("--prompt", metavar="TEXT", default="(no prompt is known)", help="what they were made for")
    image.set_defaults(run=_screen_image)
    for kind in (prompt, image):
        kind.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _add_keys(commands: Any) -> None:
    keys = commands.add_parser("keys", help="make, list and revoke the keys of API clients")
    actions = keys.add_subparsers(title="actions", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a key, and show it this once")
    create.add_argument("name", nargs="?", default="unnamed", help="to tell it from others")
    create.set_defaults(run=_create_key)
    listing = actions.add_parser("list", help="list the keys")
    listing.set_defaults(run=_list_keys)
    revoke = actions.add_parser("revoke", help="make a key stop working")
    revoke.add_argument("id", help="as 'keys list' shows it")
    revoke.set_defaults(run=_revoke_key)


def _add_config(commands: Any) -> None:
    config = commands.add_parser("config", help="look at the configuration")
    actions = config.add_subparsers(title="actions", metavar="ACTION", required=True)
    check = actions.add_parser("check", help="load everything that is configured, and print what would run")
    check.set_defaults(run=_check_config)


def _screen_prompt(args: argparse.Namespace) -> int:
    settings = read_settings(args.config)
    request = GenerationRequest(args.text, Principal("cli"), negative_prompt=args.negative_prompt)
    with _unrecorded(settings, image=False) as guard:
        decision = asyncio.run(guard.judge_prompt(request))
    found = [(channel, view) for channel, views in request.views.items() for view in evident(views)]
    if args.json:
        disguises = [
            {"channel": channel, "kind": view.kind, "why": view.why, "text": view.text} for channel, view in found
        ]
        print(json.dumps([{"subject": "prompt", **decision.as_dict(), "disguises": disguises}], indent=2))
        return _code([decision])
    code = _show([("prompt", decision)], settings.policy, as_json=False)
    for channel, view in found:
        # Not as markup, and no control character of somebody's prompt in a terminal.
        text = "".join(char if char.isprintable() else " " for char in view.text)
        Console().print(f"disguise in {channel}: {view.why} ({view.kind}): {text}", markup=False, highlight=False)
    return code


def _screen_image(args: argparse.Namespace) -> int:
    settings = read_settings(args.config)
    files = [_opened(file, args.prompt) for file in args.files]
    # What a file says beside its own name is read by the prompt screens, which need not be loaded for the others.
    speak = any(len(request.extra_texts) > 1 for _, request in files)
    with _unrecorded(settings, prompt=speak) as guard:
        named = asyncio.run(_judged(guard, args.files, files))
    return _show(named, settings.policy, as_json=args.json)


async def _judged(
    guard: Guard, names: Sequence[Path], files: Sequence[tuple[Encoded, GenerationRequest]]
) -> list[tuple[str, Decision]]:
    """Rule on what each file shows, and before it on what its metadata says, if it says anything."""
    named: list[tuple[str, Decision]] = []
    for name, (item, request) in zip(names, files, strict=True):
        if len(request.extra_texts) > 1:
            named.append((f"{name} (texts)", await guard.judge_prompt(request)))
        named += [(str(name), decision) for decision in await guard.judge_images([item], request)]
    return named


@contextmanager
def _unrecorded(settings: Settings, *, prompt: bool = True, image: bool = True) -> Iterator[Guard]:
    """Give a guard with the configured screens and a store that is forgotten; unused stages load nothing heavy."""
    with closing(open_store("sqlite:///:memory:")) as store:
        yield build_guard(settings, store, prompt=prompt, image=image, enforce=False)


def _opened(file: Path, prompt: str) -> tuple[Encoded, GenerationRequest]:
    """Return what a file shows, and a request of all texts in it: its name and metadata, beside the prompt."""
    try:
        data = file.read_bytes()
        item = encode_raw(decode_picture(data))
    except (OSError, ValueError) as error:
        raise InvalidRequest(str(file), f"cannot be read as a still PNG, JPEG or WebP picture: {error}") from error
    try:
        return item, GenerationRequest(prompt, Principal("cli"), extra_texts=texts_of_file(file.name, data))
    except InvalidRequest as error:
        raise InvalidRequest(str(file), str(error)) from None


def _show(named: Sequence[tuple[str, Decision]], policy: Policy, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps([{"subject": name, **decision.as_dict()} for name, decision in named], indent=2))
    else:
        for name, decision in named:
            _print_decision(name, decision, policy)
    return _code([decision for _, decision in named])


def _code(decisions: Sequence[Decision]) -> int:
    if any(not decision.allows and not decision.is_fault for decision in decisions):
        return BLOCKED
    return UNAVAILABLE if any(decision.is_fault for decision in decisions) else PASSES


def _print_decision(name: str, decision: Decision, policy: Policy) -> None:
    console = Console()
    table = Table(title=escape(f"{name}: {decision.action} ({decision.reason})"), title_justify="left")
    for heading in ("screen", "outcome", "category", "score", "threshold", "ms", "model"):
        table.add_column(heading, justify="right" if heading in ("score", "threshold", "ms") else "left")
    for verdict in decision.verdicts:
        # A verdict without scores still gets its line.
        rows = sorted(verdict.scores.items(), key=lambda item: -item[1]) or [("", -1.0)]
        for place, (category, score) in enumerate(rows):
            rule = policy.categories.get(category)
            table.add_row(
                escape(verdict.screen) if place == 0 else "",
                escape(f"{verdict.outcome} {verdict.reason}".strip()) if place == 0 else "",
                escape(category),
                "" if score < 0 else f"{score:.3f}",
                f"{rule.threshold(verdict):.2f}" if rule else "",
                f"{verdict.ms:.0f}" if place == 0 else "",
                escape(verdict.model) if place == 0 else "",
            )
    console.print(table)
    for category in decision.categories:
        if category in policy.categories:
            console.print(f"{policy.categories[category].title}: {policy.categories[category].advice}", markup=False)


def _create_key(args: argparse.Namespace) -> int:
    check_faithful("NAME", args.name)
    store = open_store(read_settings(args.config).store_url)
    try:
        key, token = store.create_key(args.name, at=datetime.now(UTC))
    finally:
        store.close()
    print(f"{key.id} ({key.name}); this is the only time the key is shown:", file=sys.stderr)
    # Alone on standard output, so that KEY=$(safelight keys create) works.
    print(token)
    return PASSES


def _list_keys(args: argparse.Namespace) -> int:
    store = open_store(read_settings(args.config).store_url)
    try:
        keys = store.list_keys()
    finally:
        store.close()
    table = Table("id", "name", "starts with", "created", "revoked")
    for key in keys:
        revoked = f"{key.revoked:%Y-%m-%d %H:%M}" if key.revoked else ""
        table.add_row(key.id, escape(key.name), key.prefix, f"{key.created:%Y-%m-%d %H:%M}", revoked)
    Console().print(table)
    return PASSES


def _revoke_key(args: argparse.Namespace) -> int:
    check_faithful("ID", args.id)
    store = open_store(read_settings(args.config).store_url)
    try:
        done = store.revoke_key(args.id, at=datetime.now(UTC))
    finally:
        store.close()
    if not done:
        print(f"safelight: no working key has the id {args.id}", file=sys.stderr)
        return WRONG
    print(f"{args.id} revoked")
    return PASSES


def _check_config(args: argparse.Namespace) -> int:
    settings = read_settings(args.config)
    runtime = build(settings)
    try:
        for line in runtime.describe():
            print(line)
    finally:
        runtime.store.close()
    return PASSES


def _demo(args: argparse.Namespace) -> int:
    from .demo import serve

    return serve(read_settings(args.config))
