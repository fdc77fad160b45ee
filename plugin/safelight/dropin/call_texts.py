"""The texts of a pipeline's call: one column a channel, one text a prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidRequest


@dataclass(frozen=True, slots=True, repr=False)
class CallTexts:
    """The texts that are passed on.

    Args:
        columns: Channel name to one text a prompt.
        count: How many prompts there are.
        batched: Whether they were given as a list.
    """

    columns: Mapping[str, tuple[str, ...]]
    count: int
    batched: bool

    def judged(self, origins: Mapping[str, Iterable[Mapping[str, str]]]) -> tuple[Mapping[str, str], ...]:
        """Return, for each prompt, all that is to be judged: its own texts, and those of the latents it was given.

        Args:
            origins: By parameter, the texts that latents were made from. Which of them lie in which row is not known,
                so each prompt answers for all that none of the call's prompts says itself.
        """
        made_from: dict[str, dict[str, None]] = {}
        for parameter, all_texts in origins.items():
            for texts in all_texts:
                for channel, text in texts.items():
                    if text not in self.columns.get(channel, ()):
                        made_from.setdefault(f"{parameter}.{channel}", {})[text] = None
        handed = {name: "\n".join(each) for name, each in made_from.items()}
        return tuple(
            {name: column[place] for name, column in self.columns.items() if column[place].strip()} | handed
            for place in range(self.count)
        )


def read_texts(given: Mapping[str, Any], *, embedded: int | None = None) -> CallTexts:
    """Read the texts of a call.

    Args:
        given: Channel name to a text or a list of texts.
        embedded: How many prompts were given as embeddings, or None if none were. Only then no text is needed.

    Raises:
        InvalidRequest: If there is no prompt, or the texts do not fit together.
    """
    # Plain strings from here on: a subclass could answer a screen and the model differently.
    given = {name: _plain(value) for name, value in given.items()}
    prompt = given.get("prompt")
    if prompt is None and embedded is None:
        raise InvalidRequest("prompt", "a guarded pipeline needs the text of the prompt")
    if prompt is not None and not isinstance(prompt, str | list):
        raise InvalidRequest("prompt", f"must be a text or a list of texts, not {type(prompt).__name__}")
    lists = any(isinstance(value, list) for value in given.values())
    batched = isinstance(prompt, list) if prompt is not None else lists or embedded != 1
    count = len(prompt) if isinstance(prompt, list) else embedded or 1
    if not count:
        raise InvalidRequest("prompt", "is an empty list")
    columns = {name: _column(name, value, count, batched) for name, value in given.items()}
    return CallTexts(columns, count, batched)


def _column(name: str, value: Any, count: int, batched: bool) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,) * count
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise InvalidRequest(name, f"must be a text or a list of texts, not {type(value).__name__}")
    if not batched:
        raise InvalidRequest(name, "is a list, but the prompt is a single text; give both the same form")
    if len(value) != count:
        raise InvalidRequest(name, f"has {len(value)} texts for {count} prompts")
    return tuple(value)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return str.__str__(value)[:]
    return [_plain(item) for item in value] if isinstance(value, Sequence) and not isinstance(value, bytes) else value
