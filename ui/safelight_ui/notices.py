"""What the page says about a request, as HTML: who looked, why something is missing, and what to do about it.

Every text that goes in is escaped. None of it is ever a prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from safelight import Action, CoolDown, Creation, Decision, InvalidRequest, Outcome, Picture, Policy, Reason, Stage

_NO_CATEGORY = {
    Reason.PROVIDER_REFUSED: (
        "A judge declined",
        "The provider of a judge declined to look at this. Say it in other words, or ask for something else.",
    ),
    Reason.RESTRICTED: ("Not allowed", "This cannot be made. If you think the decision is wrong, appeal with its id."),
    Reason.DISAGREEMENT: ("The screens disagree", "Those that looked at it contradict each other about it."),
    Reason.GENERATION_FAILED: ("It came out empty", "The model made nothing that can be seen. Please try again."),
}

_REVIEW = "<p>It is not shown, and a person will look into the case. It does not count against you.</p>"

WELCOME = """
<section class="sl-card sl-idle" data-state="idle"><h3>What happens when you press Create</h3>
<ol class="sl-steps">
<li><b>Your prompt is read,</b> together with what you asked for before.</li>
<li><b>The picture is made.</b></li>
<li><b>Every picture is looked at</b> before you see it.</li>
</ol><p>If something is refused, you will read here why, and what to change.</p></section>
"""

WORKING = """
<section class="sl-card sl-idle" data-state="working"><h3>On its way</h3>
<p>The prompt is read, then the picture is made, then it is looked at.</p></section>
"""


@dataclass(frozen=True, slots=True)
class Notices:
    """Writes the cards.

    Args:
        policy: Gives categories their plain words.
        appeal: Who to turn to about a decision; may be empty.
    """

    policy: Policy
    appeal: str = ""

    def released(self, creation: Creation) -> str:
        """Return the receipt: who looked, what was withheld, and the proof of each picture.

        Args:
            creation: What came of a request whose seed was set.
        """
        count = len(creation.released)
        heading = f"{count} picture{'s' * (count != 1)} released"
        before = len(creation.admission.history)
        read_with = (
            f"with {before} earlier request{'s' * (before != 1)} of yours" if before else "your first request here"
        )
        looked = [picture.decision for picture in creation.pictures]
        rows = (
            ("Prompt read by", _chips(creation.admission.decision.screens) + f"<small>{read_with}</small>"),
            ("Pictures looked at by", _chips(dict.fromkeys(name for one in looked for name in one.screens))),
            ("Seed", f"<code>{creation.admission.request.seed}</code>"),
        )
        receipt = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows)
        withheld = "".join(self._withheld(creation.pictures, place) for place in creation.withheld)
        body = f"{withheld}<dl>{receipt}</dl>{self._remarks(creation)}{_proof(creation)}"
        return _card("released", "good", heading, body)

    def refused(self, decision: Decision, left: int | None = None) -> str:
        """Return why the prompt, or every picture, was blocked.

        Args:
            decision: The block.
            left: How many more blocks there may be before requests are paused; None where that is not near.
        """
        if decision.stage is Stage.PROMPT:
            heading, stage = "Refused: the prompt", "Stage: <b>prompt</b>. It was refused before anything was made."
        else:
            heading, stage = "Refused: the picture", "Stage: <b>picture</b>. What was made is not shown to anyone."
        body = f"<p>{stage}</p>{self._why(decision)}{_warning(left)}{self._how_to_appeal(decision.id)}"
        return _card("refused", "bad", heading, body)

    def paused(self, error: CoolDown) -> str:
        """Return that too many requests were blocked, and until when nothing is made."""
        if error.until is None:
            heading, when = "Paused until a person has looked", "Somebody has to look at this before it goes on."
        else:
            heading = "Paused for a while"
            when = f"It goes on by itself at <b>{error.until:%H:%M} UTC on {error.until:%d %B}</b>."
        body = (
            f"<p>Several requests were refused in a short time, so nothing is read or made now. {when}</p>"
            # A whole group's pause rests on somebody else's decision, which is nobody else's business.
            f"{self._how_to_appeal(error.decision_id) if error.scope == 'principal' else ''}"
        )
        return _card("paused", "bad", heading, body)

    def unavailable(self, decision: Decision | None) -> str:
        """Return that screening failed, which says nothing about the person."""
        failed = [verdict for verdict in decision.verdicts if verdict.outcome is not Outcome.OK] if decision else []
        names = ", ".join(f"{escape(verdict.screen)} ({escape(verdict.outcome)})" for verdict in failed)
        detail = f"<p>Did not answer: {names}.</p>" if names else ""
        body = (
            "<p>A part that has to look at this could not, and without it nothing is shown. "
            "This is no judgement about your request.</p>" + detail + _quote(decision)
        )
        return _card("unavailable", "fault", "Our fault, not yours: please try again", body)

    def invalid(self, error: InvalidRequest) -> str:
        """Return which field cannot be accepted."""
        problem = escape(str(error).removeprefix(f"{error.field}: "))
        field = escape(error.field.replace("_", " "))
        return _card("invalid", "hint", "Please change one thing", f"<p><b>{field}</b>: {problem}</p>")

    def failed(self) -> str:
        """Return that the prompt was fine and the generator was not."""
        body = "<p>Your prompt was accepted, but no picture came out. Please try again, or try other settings.</p>"
        return _card("failed", "fault", "The picture could not be made", body)

    def _withheld(self, pictures: Sequence[Picture], place: int) -> str:
        decision = pictures[place].decision
        heading = f"Picture {place + 1} of {len(pictures)} was withheld"
        why = self._why(decision) + (_quote(decision) if decision.is_fault else self._how_to_appeal(decision.id))
        return f'<div class="sl-withheld" data-withheld="{place + 1}"><h4>{heading}</h4>{why}</div>'

    def _why(self, decision: Decision) -> str:
        rules = [self.policy.categories[name] for name in decision.categories if name in self.policy.categories]
        reasons = [(rule.title, rule.advice) for rule in rules] or [
            _NO_CATEGORY.get(decision.reason, ("Not allowed", "Ask for something else."))
        ]
        items = "".join(f"<dt>{escape(title)}</dt><dd>{escape(advice)}</dd>" for title, advice in reasons)
        looked = _REVIEW if decision.action is Action.REVIEW else ""
        return f'<dl class="sl-why">{items}</dl>{looked}'

    def _how_to_appeal(self, decision_id: str) -> str:
        whom = f"Appeal to {_contact(self.appeal)}" if self.appeal else "Tell whoever runs this page"
        return f'<p class="sl-appeal">Wrong? {whom} and quote the decision<br><code>{escape(decision_id)}</code></p>'

    def _remarks(self, creation: Creation) -> str:
        decisions = [creation.admission.decision, *(one.decision for one in creation.pictures if one.encoded)]
        names = dict.fromkeys(name for decision in decisions for name in decision.categories)
        rules = [self.policy.categories[name] for name in names if name in self.policy.categories]
        titles = ", ".join(escape(rule.title) for rule in rules)
        return f"<p>Released with a remark: {titles}.</p>" if titles else ""


def footer(policy: Policy, *, prompt_screens: Iterable[str], image_screens: Iterable[str], judge_note: str) -> str:
    """Return the line about what is configured.

    Args:
        policy: What rules.
        prompt_screens: Names of the screens that read prompts.
        image_screens: Names of the screens that look at pictures.
        judge_note: How to add what is not configured; may be empty.
    """
    digest = escape(policy.hash.removeprefix("sha256:")[:12])
    note = f"<p>{escape(judge_note[:1].upper() + judge_note[1:])}.</p>" if judge_note else ""
    return (
        f'<footer class="sl-footer"><p>Prompts are read by {_chips(prompt_screens)} and pictures looked at by '
        f"{_chips(image_screens)} under the policy <code>{escape(policy.name)}</code> <code>{digest}</code>.</p>"
        f"{note}</footer>"
    )


def header(note: str) -> str:
    """Return the title, what this is, and what its model says of itself.

    Args:
        note: One plain sentence about the model; may be empty.
    """
    about = f'<p class="sl-note">{escape(note)}</p>' if note else ""
    return (
        '<header class="sl-header"><h1><span class="sl-lamp" aria-hidden="true"></span>Safelight</h1>'
        "<p>Pictures from words: every prompt is read, every picture is looked at before you see it, "
        f"and every refusal says why.</p>{about}</header>"
    )


def vocabulary(knows: Mapping[str, Sequence[str]]) -> str:
    """Return the words that a model knows, or nothing where it does not say.

    Args:
        knows: Words by their kind, such as things and colours.
    """
    rows = "".join(
        f"<dt>{escape(kind)}</dt><dd>{escape(', '.join(words))}</dd>" for kind, words in knows.items() if words
    )
    return f'<section class="sl-knows"><h3>What it can draw</h3><dl>{rows}</dl></section>' if rows else ""


def _card(state: str, tone: str, heading: str, body: str) -> str:
    return (
        f'<section class="sl-card sl-{tone}" data-state="{state}" role="status"><h3>{escape(heading)}</h3>'
        f"{body}</section>"
    )


def _chips(names: Iterable[str]) -> str:
    return " ".join(f'<span class="sl-chip">{escape(name)}</span>' for name in names)


def _warning(left: int | None) -> str:
    if left is None:
        return ""
    if left <= 0:
        return '<p class="sl-warning">Too many requests were refused: further ones are paused for now.</p>'
    return (
        f'<p class="sl-warning">After {left} more refused request{"s" * (left != 1)} the page pauses for a while.</p>'
    )


def _quote(decision: Decision | None) -> str:
    return f'<p class="sl-appeal">Decision<br><code>{escape(decision.id)}</code></p>' if decision else ""


def _proof(creation: Creation) -> str:
    rows = "".join(
        f"<li>Picture {place + 1}<br>decision <code>{escape(picture.decision.id)}</code><br>"
        f"sha256 <code>{escape(picture.decision.image_sha256 or '')}</code></li>"
        for place, picture in enumerate(creation.pictures)
        if picture.encoded is not None
    )
    return f"<details><summary>Proof of each picture</summary><ul>{rows}</ul></details>"


def _contact(appeal: str) -> str:
    text = escape(appeal)
    # Only these two: a link of another kind could run a script.
    if appeal.startswith(("https://", "mailto:")):
        shown = escape(appeal.removeprefix("mailto:"))
        return f'<a href="{text}" rel="noreferrer noopener" target="_blank">{shown}</a>'
    return text
