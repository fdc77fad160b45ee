"""``safelight ui``: serve the page."""

from __future__ import annotations

import argparse
import ipaddress
import socket
from typing import Any

from safelight.config import Runtime, build, read_settings
from safelight.errors import ConfigError, MissingExtra


def add(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the command to the main parser, whose ``--config`` it reads as ``args.config``."""
    parser = subparsers.add_parser("ui", help="serve the page for creators", description=__doc__)
    parser.add_argument("--host", help="address to listen on (default: ui.host of the configuration)")
    parser.add_argument("--port", type=_port, help="TCP port, 0 for a free one (default: ui.port of the configuration)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted.

    Args:
        args: With ``config``, ``host`` and ``port``, each of them possibly None.

    Returns:
        The exit status.

    Raises:
        ConfigError: If a setting is wrong, an extra is missing, or the address cannot be used.
    """
    settings = read_settings(args.config)
    host = args.host or settings.ui.host
    port = settings.ui.port if args.port is None else args.port
    # Gradio takes seconds to import; a plain `safelight --help` does not wait for it.
    try:
        import uvicorn

        from .page import create_app
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "gradio", "ui", needed_by="safelight ui") from error
    with _listening(host, port) as listener:
        runtime = build(settings)
        try:
            server = uvicorn.Server(uvicorn.Config(create_app(runtime), log_level="warning"))
            print(_greeting(runtime, host, listener.getsockname()[1]), flush=True)
            server.run(sockets=[listener])
        except KeyboardInterrupt:
            # Uvicorn has shut down in order and passes the signal on; ending on request is no failure.
            return 0
        finally:
            runtime.store.close()
    return 0


def _port(text: str) -> int:
    try:
        port = int(text)
    except ValueError:
        port = -1
    if not 0 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 65535, not {text!r}")
    return port


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(f"ui: cannot listen on {host} port {port}: {error.strerror or error}") from error


def _greeting(runtime: Runtime, host: str, port: int) -> str:
    guard = runtime.guard
    shown = f"[{host}]" if ":" in host else host
    lines = [
        f"Safelight page: http://{shown}:{port}/",
        f"  generator      {runtime.generator.name}",
        f"  prompts        {', '.join(screen.name for screen in guard.prompt_screens)}",
        f"  pictures       {', '.join(screen.name for screen in guard.image_screens)}",
        f"  policy         {guard.policy.name} {guard.policy.hash[:19]}",
        f"  configuration  {runtime.settings.source}",
    ]
    if runtime.settings.judge_note:
        lines.append(f"  note           {runtime.settings.judge_note}")
    if not _is_loopback(host):
        lines.append("  warning        anyone who reaches this address can create; put a login before it")
    return "\n".join(lines)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
