"""Prompts whose pictures were blocked, remembered for a while for everyone in the tenant: digests, never texts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from . import Run, Store, rows

_REMEMBER = """
    INSERT INTO blocked_prompts (tenant, digest, categories, until, decision_id)
    VALUES (:tenant, :digest, :categories, :until, :decision_id)
    ON CONFLICT (tenant, digest) DO UPDATE SET
        categories = excluded.categories, until = excluded.until, decision_id = excluded.decision_id
    WHERE excluded.until >= blocked_prompts.until
"""
_RECALL = "SELECT categories FROM blocked_prompts WHERE tenant = :tenant AND digest = :digest AND until > :at"
# An appeal may quote any of a request's decisions, for example that of another picture of it.
_FORGET = """
    DELETE FROM blocked_prompts WHERE decision_id = :decision_id OR decision_id IN (
        SELECT id FROM decisions WHERE request_id = (SELECT request_id FROM decisions WHERE id = :decision_id)
    )
"""
_ASKED = """
    SELECT tenant, texts FROM turns WHERE request_id = (SELECT request_id FROM decisions WHERE id = :decision_id)
"""
_FORGET_PROMPT = "DELETE FROM blocked_prompts WHERE digest = :digest AND tenant = :tenant"
_REMOVE_OLD = "DELETE FROM blocked_prompts WHERE until <= :now"


class BlockedPrompts:
    """What was blocked, by digest. Every method is blocking, and raises ``StoreUnavailable`` as the store does.

    Args:
        store: Keeps them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def remember(
        self,
        digest: str,
        *,
        tenant: str,
        categories: Sequence[str],
        until: datetime,
        decision_id: str,
        also: Sequence[str] = (),
    ) -> None:
        """Remember a prompt until a time, and remove what the time of its decision has made old.

        Args:
            digest: A keyed digest of the prompt; nothing else of it is stored.
            tenant: For whom it is remembered.
            categories: What its picture was blocked for.
            until: From when it is forgotten, with time zone.
            decision_id: The decision that blocked the picture.
            also: Digests of other readings of the same prompt.
        """
        values = {
            "tenant": tenant,
            "categories": json.dumps(list(categories)),
            "until": rows.stamp(until),
            "decision_id": decision_id,
        }

        def work(run: Run) -> None:
            # The decision was made just now, by the guard's own clock.
            for row in run("SELECT created FROM decisions WHERE id = :id", {"id": decision_id}):
                run(_REMOVE_OLD, {"now": rows.stamp(rows.moment(row["created"]))})
            for one in dict.fromkeys((digest, *also)):
                run(_REMEMBER, {**values, "digest": one})

        self._store.transact(work)

    def recall(self, *digests: str, tenant: str, at: datetime) -> tuple[str, ...] | None:
        """Return what a prompt's picture was blocked for, or None where nothing is remembered of any reading of it."""
        values = {"tenant": tenant, "at": rows.stamp(at)}

        def work(run: Run) -> tuple[str, ...] | None:
            for digest in digests:
                for found in run(_RECALL, {**values, "digest": digest}):
                    return tuple(json.loads(found["categories"]))
            return None

        return self._store.transact(work, write=False)

    def forget(self, decision_id: str) -> None:
        """Forget what rests on a decision, or on another one of its request: an appeal against it was won."""
        self._store.transact(lambda run: run(_FORGET, {"decision_id": decision_id}))

    def asked(self, decision_id: str) -> tuple[str, Mapping[str, str]] | None:
        """Return the tenant and the channels of the request that a decision is about, or None if it is not known."""
        found = self._store.transact(lambda run: run(_ASKED, {"decision_id": decision_id}), write=False)
        return (found[0]["tenant"], json.loads(found[0]["texts"])) if found else None

    def forget_prompts(self, digests: Sequence[str], *, tenant: str) -> None:
        """Forget prompts, whichever decision they rest on."""

        def work(run: Run) -> None:
            for digest in digests:
                run(_FORGET_PROMPT, {"digest": digest, "tenant": tenant})

        self._store.transact(work)
