"""``safelight.toml`` and ``SAFELIGHT_*`` read into settings; nothing is loaded. The only reader of the environment.

Every key of the file can be set from the environment: section and key in capitals, joined by one underscore, as in
``SAFELIGHT_STORE_URL``; the value is TOML where it reads as TOML, else a string. Lists of screens are replaced whole:
``SAFELIGHT_PROMPT_SCREENS='[{use = "terms", terms = ["teapot"], category = "violence"}]'``. ``SAFELIGHT_CONFIG`` names
the file, or one of those that ship in ``configs``, as in ``SAFELIGHT_CONFIG=harmless``.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from .errors import ConfigError
from .guard import GuardSettings
from .policy import Policy
from .screens import PROMPT_SCREENS
from .toml_table import Table

DEFAULT_FILE = "safelight.toml"
DEFAULT_JUDGE = "gemini/gemini-2.5-flash-lite"
_SECTIONS = (
    "generator", "prompt_screens", "image_screens", "store", "policy", "guard", "spending", "canary", "gateway", "ui",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """A screen or generator to be made: what to use, and its options."""

    use: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Where the images endpoint listens, and what it accepts.

    Args:
        host: Address to listen on; loopback unless told otherwise.
        port: TCP port; 0 takes a free one.
        models: Further model ids that clients may send; each means the configured generator.
        max_waiting: Requests that may wait or run at a time; more are answered 429.
        appeal: Who to turn to about a decision; shown in refusals.
        metrics: Whether ``/metrics`` answers, to holders of an API key.
    """

    host: str = "127.0.0.1"
    port: int = 8642
    models: tuple[str, ...] = ("gpt-image-1", "gpt-image-1.5", "gpt-image-2", "dall-e-3", "dall-e-2")
    max_waiting: int = 16
    appeal: str = ""
    metrics: bool = True


@dataclass(frozen=True, slots=True)
class UISettings:
    """Where the page listens.

    Args:
        host: Address to listen on; loopback unless told otherwise.
        port: TCP port; 0 takes a free one.
    """

    host: str = "127.0.0.1"
    port: int = 8641


@dataclass(frozen=True, slots=True)
class SpendingSettings:
    """What may be spent on language models.

    Args:
        usd_per_day: Dollars a day (UTC), over all processes on one store; more blocks until the next day. None: no
            limit.
    """

    usd_per_day: float | None = None


@dataclass(frozen=True, slots=True)
class CanarySettings:
    """How it is watched that the LLM judges still judge. Only servers do; a single command does not.

    Args:
        every_s: Seconds between two rounds, the first of which runs at the start; 0 turns it off.
        count: Harmless questions a round, half of which must be blocked and half must pass.
        needed: How many of them must come back right.
        on_fail: ``block`` (nothing is released on the word of a judge that failed) or ``unready`` (only ``/readyz``
            says so).
    """

    every_s: float = 3600.0
    count: int = 50
    needed: int = 48
    on_fail: str = "block"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be configured, read and checked, with nothing loaded yet.

    Args:
        source: The file it came from, or a remark that these are the defaults.
        judge_note: How to add the LLM judge, where none is configured, else empty.
    """

    source: str
    generator: Part
    prompt_screens: tuple[Part, ...]
    image_screens: tuple[Part, ...]
    store_url: str
    policy: Policy
    guard: GuardSettings
    gateway: GatewaySettings
    ui: UISettings
    spending: SpendingSettings = SpendingSettings()
    canary: CanarySettings = CanarySettings()
    judge_note: str = ""


def read_settings(path: str | Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the configuration.

    Args:
        path: The file, or the name of one that ships; by default ``SAFELIGHT_CONFIG``, else ``safelight.toml`` in the
            working folder if it is there.
        environ: The environment, ``os.environ`` by default.

    Raises:
        ConfigError: If a key is unknown or wrong; the message names it.
    """
    environ = os.environ if environ is None else environ
    named = path or environ.get("SAFELIGHT_CONFIG")
    file = Path(named) if named else Path(DEFAULT_FILE)
    # Only such a name is looked up here: a path that is too long, say, is answered where files are read.
    if named and str(named) in shipped_configurations() and not file.is_file():
        # A policy that such a file names by its name ships too; no path in it would lead anywhere.
        text = (resources.files("safelight") / "configs" / f"{named}.toml").read_text("utf-8")
        data, source, folder = tomllib.loads(text), f"{named}, as it ships", Path()
    elif named or file.is_file():
        data, source, folder = _read_file(file), str(file), file.parent
    else:
        data, source, folder = {}, "built-in defaults (no safelight.toml)", Path()
    _lay_over(data, environ)
    return _settings(data, environ, source=source, folder=folder)


def shipped_configurations() -> tuple[str, ...]:
    """Return the names of the configurations that ship, sorted."""
    files = (resources.files("safelight") / "configs").iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


def _read_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        shipped = ", ".join(shipped_configurations())
        raise ConfigError(f"cannot read {file}: {error}; what ships goes by its name: {shipped}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from error


def _lay_over(data: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Put ``SAFELIGHT_SECTION_KEY`` values over the file's."""
    for variable, text in environ.items():
        if not variable.startswith("SAFELIGHT_") or variable == "SAFELIGHT_CONFIG":
            continue
        path = variable.removeprefix("SAFELIGHT_").lower()
        section = next((name for name in _SECTIONS if path == name or path.startswith(name + "_")), None)
        if section is None:
            raise ConfigError(f"{variable}: names no section; there are {', '.join(_SECTIONS)}")
        key = path.removeprefix(section).removeprefix("_")
        if section.endswith("_screens"):
            if key:
                raise ConfigError(f"{variable}: a list of screens is set whole, as SAFELIGHT_{section.upper()}")
            data[section] = _value(text)
        elif key:
            table = data.setdefault(section, {})
            if isinstance(table, dict):
                table[key] = _value(text)
        else:
            raise ConfigError(f"{variable}: names a section without a key, such as {variable}_URL")


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _settings(data: dict[str, Any], environ: Mapping[str, str], *, source: str, folder: Path) -> Settings:
    top = Table(data, "")
    generator = _part(top.take("generator", dict, {"use": "embedded"}), "generator")
    prompt_screens = _parts(top.take("prompt_screens", list, [{"use": "sentence_head"}]), "prompt_screens")
    image_screens = _parts(
        top.take("image_screens", list, [{"use": "open_nsfw"}, {"use": "image_safety"}]), "image_screens"
    )
    store = Table(top.take("store", dict, {}), "store.")
    store_url = store.take("url", str, "sqlite:///safelight.db")
    store.finish()
    policy = _policy(Table(top.take("policy", dict, {}), "policy."), folder)
    guard = _guard_settings(Table(top.take("guard", dict, {}), "guard."))
    spending = _spending_settings(Table(top.take("spending", dict, {}), "spending."))
    canary = _canary_settings(Table(top.take("canary", dict, {}), "canary."))
    gateway = _gateway_settings(Table(top.take("gateway", dict, {}), "gateway."))
    ui = _ui_settings(Table(top.take("ui", dict, {}), "ui."))
    top.finish()
    prompt_screens, judge_note = _with_judge(prompt_screens, environ)
    return Settings(
        source=source,
        generator=generator,
        prompt_screens=prompt_screens,
        image_screens=image_screens,
        store_url=store_url,
        policy=policy,
        guard=guard,
        gateway=gateway,
        ui=ui,
        spending=spending,
        canary=canary,
        judge_note=judge_note,
    )


def _policy(table: Table, folder: Path) -> Policy:
    file, name = table.take("file", str, None), table.take("name", str, None)
    table.finish()
    for key, value in (("file", file), ("name", name)):
        if value == "":
            raise ConfigError(f"policy.{key}: must not be empty; leave it out for the policy that ships as 'default'")
    if file and name:
        raise ConfigError("policy: set 'file' for one of your own or 'name' for one that ships, not both")
    # A policy is looked for beside the file that names it, wherever Safelight is started.
    return Policy.load(folder / file) if file else Policy.shipped(name or "default")


def _with_judge(parts: tuple[Part, ...], environ: Mapping[str, str]) -> tuple[tuple[Part, ...], str]:
    """Add the LLM judge by itself where Gemini's key is at hand and no judge was configured."""
    if any(PROMPT_SCREENS.get(part.use, part.use) == PROMPT_SCREENS["llm_judge"] for part in parts):
        return parts, ""
    if environ.get("GEMINI_API_KEY"):
        return (*parts, Part("llm_judge", {"model": DEFAULT_JUDGE})), ""
    return parts, (
        "no language model reads prompts with their history yet: set GEMINI_API_KEY, "
        'or add [[prompt_screens]] use = "llm_judge" with any LiteLLM model'
    )


def _parts(tables: Sequence[Any], key: str) -> tuple[Part, ...]:
    # A short name alone is enough where there are no options.
    return tuple(
        _part({"use": table} if isinstance(table, str) else table, f"{key}[{place}]")
        for place, table in enumerate(tables)
    )


def _part(data: Any, key: str) -> Part:
    if not isinstance(data, dict):
        raise ConfigError(f"{key}: must be a table with 'use', not {data!r}")
    table = Table(data, f"{key}.")
    return Part(table.take("use", str), table.rest())


def _guard_settings(table: Table) -> GuardSettings:
    defaults = GuardSettings()
    settings = GuardSettings(
        history_turns=_within(table, "history_turns", defaults.history_turns, 1, 1_000),
        screen_deadline_s=table.take("screen_deadline_s", float, defaults.screen_deadline_s),
        alert_contact=table.take("alert_contact", str, defaults.alert_contact),
        verdict_cache_s=table.take("verdict_cache_s", float, defaults.verdict_cache_s),
    )
    # Ten minutes at most: an allow that is older says little about a policy or a judge that changed since.
    if not 0 <= settings.verdict_cache_s <= 600:
        raise ConfigError("guard.verdict_cache_s: must be from 0 (off) to 600 seconds")
    if not 0 < settings.screen_deadline_s <= 600:
        raise ConfigError("guard.screen_deadline_s: must be above 0 and at most 600 seconds")
    table.finish()
    return settings


def _spending_settings(table: Table) -> SpendingSettings:
    limit = table.take("usd_per_day", float, None)
    if limit is not None and not 0 < limit < 1e9:
        raise ConfigError("spending.usd_per_day: must be above 0; leave it out for no limit")
    table.finish()
    return SpendingSettings(limit)


def _canary_settings(table: Table) -> CanarySettings:
    defaults = CanarySettings()
    every_s = table.take("every_s", float, defaults.every_s)
    if every_s != 0 and not 10 <= every_s <= 86_400:
        raise ConfigError("canary.every_s: must be 0 (off), or from 10 to 86400 seconds")
    count = _within(table, "count", defaults.count, 2, 200)
    # More than half: who answers always the same is right every other time.
    needed = _within(table, "needed", min(defaults.needed, count), count // 2 + 1, count)
    on_fail = table.take("on_fail", str, defaults.on_fail)
    if on_fail not in ("block", "unready"):
        raise ConfigError(f"canary.on_fail: must be 'block' or 'unready', not {on_fail!r}")
    table.finish()
    return CanarySettings(every_s, count, needed, on_fail)


def _gateway_settings(table: Table) -> GatewaySettings:
    defaults = GatewaySettings()
    models = table.take("models", list, list(defaults.models))
    if not all(isinstance(model, str) and model for model in models):
        raise ConfigError("gateway.models: must be a list of texts")
    settings = GatewaySettings(
        host=table.take("host", str, defaults.host),
        port=_within(table, "port", defaults.port, 0, 65_535),
        models=tuple(models),
        max_waiting=_within(table, "max_waiting", defaults.max_waiting, 1, 10_000),
        appeal=table.take("appeal", str, defaults.appeal),
        metrics=table.take("metrics", bool, defaults.metrics),
    )
    table.finish()
    return settings


def _ui_settings(table: Table) -> UISettings:
    defaults = UISettings()
    settings = UISettings(
        host=table.take("host", str, defaults.host), port=_within(table, "port", defaults.port, 0, 65_535)
    )
    table.finish()
    return settings


def _within(table: Table, key: str, default: int, low: int, high: int) -> int:
    value = table.take(key, int, default)
    if not low <= value <= high:
        raise ConfigError(f"{table.prefix}{key}: must be from {low} to {high}, not {value}")
    return value
