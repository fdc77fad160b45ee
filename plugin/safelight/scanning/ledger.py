"""Writes what a scan finds: each finding durably before its writer goes on, many writers' findings in one commit."""

from __future__ import annotations

import asyncio

from ..store.scans import Finding, Scans


class Ledger:
    """Where the workers of one event loop write their findings.

    A commit takes milliseconds, so what comes in meanwhile is committed together next.

    Args:
        scans: The room to write to.
        scan_id: The scan that the findings belong to.
    """

    def __init__(self, scans: Scans, scan_id: str) -> None:
        self._scans = scans
        self._scan_id = scan_id
        self._waiting: list[tuple[tuple[Finding, ...], asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def write(self, *findings: Finding) -> None:
        """Return when the findings are on disk.

        Raises:
            StoreUnavailable: If they are not.
        """
        if not findings:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((findings, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._drain())
        await done

    async def _drain(self) -> None:
        while self._waiting:
            together, self._waiting = self._waiting, []
            findings = [finding for some, _ in together for finding in some]
            error: Exception | None = None
            try:
                await asyncio.to_thread(self._scans.write, self._scan_id, findings)
            except Exception as problem:
                # Not swallowed: it is raised where somebody waits for the writing.
                error = problem
            for _, done in together:
                if done.done():
                    continue
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(error)
