"""One soak from its start to its result.

    server ─► healthy ─► load ─► readings until the time is up ─► rest ─► verdict ─► (LEAK) diagnosis ─► result
      agents inside ────────┘ each record to the folder as it comes

Everything that can end it early (Ctrl-C, SIGTERM, a dead server, a dead Locust) ends in the same place: what was
recorded is judged, and the report says what happened.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from pytest_memleak.model import Outcome, Resource
from pytest_memleak.model_soak import SoakResult
from pytest_memleak.soak import outside, processes, server
from pytest_memleak.soak.blame import unexplained
from pytest_memleak.soak.channel import Channel
from pytest_memleak.soak.folder import RunFolder
from pytest_memleak.soak.judge import LIVE, glance, judge
from pytest_memleak.soak.lives import Recorded
from pytest_memleak.soak.plan import Plan, PlanError
from pytest_memleak.soak.recorder import Progress, Recorder
from pytest_memleak.soak.tree import Exit, StartError, Tree
from pytest_memleak.workloads.load import LoadError

# Locust imports, spawns and makes its first requests; a run of others starts when they start it.
_LOAD_STARTS_S: Final = 60.0
_JOINED_LOAD_STARTS_S: Final = 600.0

# A worker's agent starts with its first request, which the health check made; others with theirs.
_AGENT_SPEAKS_S: Final = 10.0
_AGENT_SAYS: Final = "memleak: "

# Connections close, late callbacks run; and long enough to see whether something grows without requests.
_QUIET_SHARE: Final = 0.02
_QUIET_S: Final = (3.0, 30.0)

_REST_ANSWER_S: Final = 15.0
_DIAGNOSIS_S: Final = 180.0
"""The inquiry's own patience of 30 s of traced requests, six times over: a loaded machine, a heap of gigabytes."""

_FAIL_FAST_READINGS: Final = 60

# Lines of a log's end in a message: a traceback's last two frames.
_TAIL: Final = 5

# Slower than any answer that a client waits for; where requests are rare, ten of their usual gaps.
_STALLED_S: Final = 60.0
_STALLED_GAPS: Final = 10

# Of a load whose every other request fails no verdict is drawn.
_ALL_FAIL: Final = 0.5


class _MasterEnded(Exception):
    """The distributed run that the load had joined is over."""


class _End(Exception):
    """The soak ends early; what was recorded is judged."""


class Soak:
    """The state of one soak."""

    def __init__(self, plan: Plan, folder: RunFolder, progress: Callable[[Progress], None], past: Recorded) -> None:
        self.plan = plan
        self.folder = folder
        self.recorded = past
        self._channel = Channel()
        self._recorder = Recorder(plan, folder, self._channel, progress, past)
        self._event = self._recorder.event
        self._pump = self._recorder.pump
        self._url = plan.url
        self._server: Tree | None = None
        self._load: Tree | None = None
        self._made, self._rose = 0, 0.0
        self._left_s = max(0.0, plan.duration_s - past.measured_s)

    def run(self) -> SoakResult:
        """Carry it out. Raises StartError, LoadError or PlanError when it could not begin."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._channel)
            stack.callback(self._stop_trees)
            stack.enter_context(_sigterm_ends())
            self._event("started")
            try:
                self._start()
                self._measure()
            except _End:
                pass
            except (StartError, LoadError, PlanError) as error:
                # For those who look into the folder; who asked is told by the exception.
                self._event("failed", str(error))
                raise
            except KeyboardInterrupt:
                self._event("interrupted", "stopped by hand or by SIGTERM before its time")
            else:
                self._event("complete")
            # A second Ctrl-C ends what follows, not the report.
            try:
                with contextlib.suppress(_End):
                    self._conclude()
                self._stop_trees()
            except KeyboardInterrupt:
                self._event("interrupted", "stopped by hand or by SIGTERM after the load")
        return self.result()

    def result(self) -> SoakResult:
        """Judge what was recorded so far."""
        result = judge(self.recorded, self.plan, folder=str(self.folder.path))
        if self.folder.was_full:
            words = f"the disk was full: {self.folder.lost} records are lost, {self.folder.waiting} were never written"
            result = dataclasses.replace(result, notes=(*result.notes, words))
        return result

    # --- phases ---------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """The server, unless it runs already, and its first answer."""
        plan = self.plan
        if plan.is_foreign:
            self._recorder.root_pid = plan.pid or outside.process_behind(plan.url)
            return
        self._server, self._url = processes.start_server(plan, self._channel, self.folder.path)
        self._recorder.root_pid = self._server.pid
        server.wait_until_healthy(self._url, self._server, path=plan.health_path, timeout_s=plan.start_timeout_s)
        deadline = time.monotonic() + _AGENT_SPEAKS_S
        while not self._recorder.agents and time.monotonic() < deadline:
            self._pump("starting")
            why = [line for line in self._server.log_tail(100).splitlines() if line.startswith(_AGENT_SAYS)]
            if why and not self._recorder.agents:
                self._event("trouble", f"no agent in a process of the server: {why[-1].removeprefix(_AGENT_SAYS)}")
                return

    def _measure(self) -> None:
        """The load, and readings until its time is up."""
        self._start_load()
        self._event("load_started")
        begun = time.monotonic()
        readings = 0
        while time.monotonic() - begun < self._left_s:
            self._pump("load")
            try:
                self._look_after()
            except _MasterEnded:
                break
            found = sum(map(len, self.recorded.serving()))
            if self.plan.fail_fast and found > readings + _FAIL_FAST_READINGS / 4:
                readings = found
                if found >= _FAIL_FAST_READINGS and self._is_convicted():
                    self._event("load_over")
                    self._event("convicted", "stopped at the first certain leak (--fail-fast)")
                    raise _End
        self._event("load_over")
        self._check_failures()

    def _is_stalled(self) -> bool:
        """Whether the load has stood still: a server that hangs keeps nothing, and proves nothing."""
        made, now = int(self._recorder.said.get("requests", 0)), time.monotonic()
        if made > self._made or not self._made:
            self._made, self._rose = made, now
        usual_s = self.recorded.measured_s / max(1, made)
        return now - self._rose > max(_STALLED_S, _STALLED_GAPS * usual_s)

    def _conclude(self) -> None:
        """After the load: a rest, and the diagnosis of a leak."""
        self._event("load_over")
        if self._load is not None:
            self._load.stop()
            self._load = None
        if self._server is None or self._server.poll() is not None or not self._recorder.agents:
            return
        if not self.recorded.windows:
            return  # nothing was measured
        shortest, longest = _QUIET_S
        until = time.monotonic() + min(longest, max(shortest, _QUIET_SHARE * self.recorded.measured_s))
        while time.monotonic() < until:
            self._pump("rest")
        self._rest()
        result = self.result()
        # A load that somebody else begins and ends cannot be had for a minute more.
        if result.outcome is Outcome.LEAK and result.basis == LIVE and self.plan.diagnose and not self.plan.master_host:
            try:
                self._diagnose(result)
            except (StartError, LoadError, PlanError) as error:
                self._event("undiagnosed", f"the load for the diagnosis did not start: {error}")

    def _rest(self) -> None:
        self._recorder.rested.clear()
        asked = [peer for peer in self._recorder.agents if self._channel.send(peer, {"kind": "rest"})]
        deadline = time.monotonic() + _REST_ANSWER_S
        while not self._recorder.rested.issuperset(asked) and time.monotonic() < deadline:
            self._pump("rest")
            asked = [peer for peer in asked if peer in self._recorder.agents]

    def _diagnose(self, result: SoakResult) -> None:
        """The lines and holders, in the worker that grew most, during a second load."""
        # What leaks bytes often leaks one of the others with them, which tells more.
        guilty = {Resource.MEMORY} | {
            growth.resource for growth in result.resources if growth.outcome is Outcome.LEAK or growth.endpoints
        }
        requests = sum(growth.requests for growth in result.endpoints) or 1
        shares = [growth.requests / len(growth.endpoints) / requests for growth in result.endpoints if growth.leaks]
        order = {
            "kind": "diagnose",
            "resources": sorted(resource.value for resource in guilty),
            "least_share": max(_LEAST_SHARE, min(shares, default=1.0)),
            "seconds_per_request": 1 / max(0.1, result.load.requests_per_s if result.load else 0.0),
            "rates": {},
        }
        self._start_load(is_measured=False)
        if not self._recorder.agents:
            self._event("undiagnosed", "no worker with an agent was there to be diagnosed")
            return
        peer = max(self._recorder.agents, key=self._grown)
        self._examine(peer, order)
        silent = unexplained(self.recorded, result.endpoints)
        if silent:
            # What Python's allocator does not show: the C heap, one more time, by memray where it is installed.
            native = [growth for growth in result.endpoints if growth.name in silent]
            total = sum(growth.bytes_per_request.value * growth.requests for growth in native)
            memory = {**order, "resources": [Resource.MEMORY.value]}
            self._examine(peer, {**memory, "native_only": True, "rates": {"native": total / requests}})

    def _examine(self, peer: int, order: Mapping[str, Any]) -> None:
        """One diagnosis by an agent; waits for what it finds."""
        known = len(self.recorded.diagnoses)
        self._channel.send(peer, dict(order))
        deadline = time.monotonic() + _DIAGNOSIS_S
        while len(self.recorded.diagnoses) == known and peer in self._recorder.agents and time.monotonic() < deadline:
            self._pump("diagnosis")
            self._look_after(only_server=True)
        if len(self.recorded.diagnoses) == known:
            gone = peer not in self._recorder.agents
            why = "its worker's agent is gone" if gone else f"it did not end within {_DIAGNOSIS_S:.0f} s"
            self._event("undiagnosed", f"the diagnosis has no result: {why}")

    def _grown(self, peer: int) -> float:
        life = self.recorded.lives.get((self.recorded.segment, self._recorder.agents[peer]))
        return life.columns["live_bytes"][-1] - life.columns["live_bytes"][0] if life is not None and len(life) else 0.0

    # --- what may fail ---------------------------------------------------------------------------------------

    def _look_after(self, *, only_server: bool = False) -> None:
        """End the soak when the server or the load has ended."""
        if self._server is not None:
            ended = self._server.poll()
            if ended is not None:
                self._server_died(ended)
                raise _End
        elif self._recorder.root_pid and outside.tree_rss(self._recorder.root_pid) is None:
            self._event("failed", f"process {self._recorder.root_pid} has ended while it was watched")
            raise _End
        if self._load is not None and not only_server:
            ended = self._load.poll()
            if ended is not None and self.plan.master_host and ended.returncode == 0 and self._recorder.said:
                # Its master has ended the run: that is the end of the time.
                raise _MasterEnded
            if self._is_stalled():
                self._event("failed", f"the load made no request for {time.monotonic() - self._rose:.0f} s: it hangs")
                raise _End
            if ended is not None:
                self._event("failed", f"Locust {ended.words}; {self._load_log_end()}")
                raise _End

    def _server_died(self, ended: Exit) -> None:
        assert self._server is not None
        tail = self._server.log_tail(20)
        rss = self._rss_under_load()
        grew = f"; its RSS went from {rss[0] / 1e6:.0f} to {rss[-1] / 1e6:.0f} MB" if rss else ""
        words = f"the server {ended.words} under load{grew}"
        killed = ended.returncode == -getattr(signal, "SIGKILL", 9)
        grown = len(rss) > 1 and rss[-1] > _GROWN_TO_DEATH * rss[0]
        if ended.oom_kills or "MemoryError" in tail or (killed and ended.oom_kills is None and grown):
            self._event("died_of_memory", words)
        else:
            self._event("failed", f"{words}; {server.log_end(self._server, _TAIL)}")

    def _rss_under_load(self) -> list[float]:
        """RSS since the load began: what came before it is a program that loads itself."""
        begun = self.recorded.windows[-1][0] if self.recorded.windows else 0.0
        seen = zip(self.recorded.outside_times_s, self.recorded.outside_rss, strict=True)
        return [size for t, size in seen if t >= begun]

    def _check_failures(self) -> None:
        # What it said before the measured time too: a resumed run may have less than a second left.
        load = self._recorder.said
        requests, failures = int(load.get("requests", 0)), int(load.get("failures", 0))
        if not requests:
            self._event("failed", "Locust made no request")
        elif failures > _ALL_FAIL * requests:
            errors = "; ".join(list(load.get("failing", {}))[:2])
            self._event("failed", f"{failures} of {requests} requests failed: {errors}")

    def _is_convicted(self) -> bool:
        outcome, rate = glance(self.recorded, self.plan)
        # By a margin: who stops early shall not be called back.
        return outcome is Outcome.LEAK and rate.low > 1.5 * self.plan.max_mb_per_min

    # --- processes -------------------------------------------------------------------------------------------

    def _start_load(self, *, is_measured: bool = True) -> None:
        # For the diagnosis every endpoint has to be called at its usual rate, within seconds.
        plan = self.plan if is_measured else dataclasses.replace(self.plan, mix_period_s=0.0)
        self._recorder.expect_load()
        self._made = 0  # else the second load would seem to hang since the first ended
        self._load = processes.start_load(plan, self._url, self._channel, self.folder.path)
        patience = _JOINED_LOAD_STARTS_S if plan.master_host else _LOAD_STARTS_S
        deadline = time.monotonic() + patience
        while not self._recorder.said.get("requests"):
            self._pump("starting the load")
            self._look_after()
            if time.monotonic() > deadline:
                self._event("failed", f"Locust made no request in {patience:.0f} s; {self._load_log_end()}")
                raise _End

    def _load_log_end(self) -> str:
        return server.log_end(self._load, _TAIL) if self._load is not None else ""

    def _stop_trees(self) -> None:
        for tree in (self._load, self._server):
            if tree is not None:
                tree.stop()


# Rates below this share of the load cannot be told from chance in the requests that the diagnosis makes.
_LEAST_SHARE: Final = 0.02

# A server that was killed at one and a half times the memory it began with had grown to that.
_GROWN_TO_DEATH: Final = 1.5


@contextlib.contextmanager
def _sigterm_ends() -> Any:
    """SIGTERM ends a soak as Ctrl-C does; only the main thread can hear it."""

    def stop(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
