"""``safelight scan`` over 10,000 made-up people against a scripted judge on a real socket, killed and resumed.

Run by ``python benchmarks/scan_cost.py --full`` (some minutes: LiteLLM takes about 10 ms of CPU time a call). It kills
the command three times with SIGKILL, resumes it each time, and counts at the server how often each person was asked
about: nobody twice, and everybody but those whose question was on its way in a kill.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

# The scripted judge and the made-up people are those of the tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from safelight.store import open_store
from safelight.store.scans import ASKED, Scans
from scan_crowd import crowd, name, named_in, one_token, populate
from scripted_gemini import ScriptedGemini

_CONFIG = """
[[prompt_screens]]
use = "llm_judge"
api_base = "{url}"
api_key = "test-key"
[store]
url = "{store}"
"""
_KILLS = 3


def main(people: int) -> None:
    """Run, kill and resume, and print what came of it."""
    bad = range(7, people, 250)
    with tempfile.TemporaryDirectory() as folder, ScriptedGemini(one_token) as gemini:
        store_url = f"sqlite:///{folder}/store.db"
        config = Path(folder) / "safelight.toml"
        config.write_text(_CONFIG.format(url=gemini.url, store=store_url), "utf-8")
        with closing(open_store(store_url)) as store:
            populate(store, crowd(people, bad=bad))
        began = time.monotonic()
        for kill in range(_KILLS):
            process = _start(config, resume=kill > 0)
            while len(gemini.asked) < people * (kill + 1) // (_KILLS + 1):
                if process.poll() is not None:
                    raise SystemExit("the scan ended by itself:\n" + process.communicate()[1])
                time.sleep(0.01)
            process.kill()
            process.communicate()
            print(f"killed after {len(gemini.asked):,} calls", flush=True)
        out, err = _start(config, resume=True).communicate()
        seconds = time.monotonic() - began
        report = json.loads(out)
        with closing(open_store(store_url)) as store:
            scan = Scans(store).newest()
            assert scan is not None
            unknown = {finding.person for finding in Scans(store).findings(scan.id, (ASKED,))}
            found = {finding.person for finding in Scans(store).findings(scan.id, ("ok",), scored=True)}
        times = Counter(person for asked in gemini.asked for person in set(named_in(asked)))
        everybody = {name(place) for place in range(people)}
        print(err, end="")
        print(f"people                          {people:,}")
        print(f"calls at the server             {len(gemini.asked):,}")
        print(f"asked about twice               {sum(count > 1 for count in times.values())}")
        print(f"judged                          {report['judged']:,}")
        print(f"unknown after {_KILLS} kills           {len(unknown)}")
        print(f"neither asked about nor unknown {len(everybody - set(times) - unknown)}")
        print(f"found, of those with the word   {len(found)} of {len(bad)} ({len(unknown & _names(bad))} unknown)")
        print(f"cost by the server's figures    ${report['cost_usd']:.4f}")
        print(f"time, starts included           {seconds:.0f} s")


def _names(places: range) -> set[str]:
    return {name(place) for place in places}


def _start(config: Path, *, resume: bool) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "safelight", "--config", str(config), "scan", "--json"]
    command += ["--resume"] if resume else []
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
