"""`memleak soak`, `report` and `verify` as users type them: real servers, real loads, right and wrong arguments."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from soak_support import (
    FIXED,
    GUNICORN,
    LEAKY,
    QUICK,
    Running,
    assert_whole_lines,
    events,
    memleak,
    needs_gunicorn,
    needs_soak,
    recorded,
    result_of,
    serving,
    write_load,
    write_shop,
)
from waiting import PATIENCE_S, until

from pytest_memleak.soak.server import free_port

pytestmark = needs_soak

HELD = re.compile(r"held  by shop\.SEEN \(list, \+(0\.9\d*|1|1\.0\d*) entr(y|ies) per request\)")
"""A few requests overlap with the diagnosis's first and last look."""

MARGINAL_BYTES = 500
"""A fortieth of the leak: seconds after its start a service still fills its free lists and caches."""

MANY = ("--users", "20")
"""A diagnosis waits for some thousand requests."""

GENERATED = (*QUICK, "--wait", "0.1")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two runs, made at the same time: `leaky`, `fixed` of the same service, and what they printed."""
    folder = tmp_path_factory.mktemp("runs")
    with contextlib.ExitStack() as stack:
        running = {}
        for name, endpoints, options in (
            ("leaky", LEAKY, MANY),
            ("fixed", FIXED, ("--max-mb-per-min", "20", "--json")),
        ):
            service = folder / f"{name}_service"
            service.mkdir()
            write_shop(service, endpoints)
            asked = ("--duration", "7s", *GENERATED, *options, "--out", str(folder / name))
            running[name] = stack.enter_context(Running(service, "soak", "shop:app", *asked))
        for name, run in running.items():
            ended = run.end()
            (folder / f"{name}.stdout").write_text(f"{ended.returncode}\n{ended.stdout}")
    return folder


def printed(runs: Path, name: str) -> tuple[int, str]:
    code, _, text = (runs / f"{name}.stdout").read_text(encoding="utf-8").partition("\n")
    return int(code), text


def test_a_leak_is_found_by_endpoint_line_and_holder(runs: Path) -> None:
    code, text = printed(runs, "leaky")
    assert code == 1, text
    assert text.startswith("LEAK shop:app: live heap at rest grew ")
    source = (runs / "leaky_service" / "shop.py").read_text(encoding="utf-8").splitlines()
    line = 1 + source.index('    SEEN.append(b"x" * (20_000 + n % 7))')
    assert f"where shop.py:{line} in leak: " in text
    assert HELD.search(text)
    assert ", in GET /leak/{n}\n" in text
    assert_accused_rightly(result_of(runs / "leaky"))


def assert_accused_rightly(result: dict[str, Any]) -> None:
    found = {growth["endpoints"][0]: growth["bytes_per_request"] for growth in result["endpoints"]}
    # Of seven seconds half are warm-up: on a busy machine what is left may bound the growth from above alone.
    assert 18_000 < found["GET /leak/{n}"]["value"] < 22_000
    assert found["GET /leak/{n}"]["low"] < 20_100
    assert 20_000 < found["GET /leak/{n}"]["high"] < 22_000
    assert found["GET /clean"]["value"] < MARGINAL_BYTES
    assert set(result["culprits"]) == {"GET /leak/{n}"}


def test_a_run_is_kept_and_judged_again_alike(runs: Path) -> None:
    code, text = printed(runs, "leaky")
    folder = runs / "leaky"
    assert result_of(folder)["why"] in (folder / "report.txt").read_text(encoding="utf-8")
    assert_whole_lines(folder)
    assert events(folder) == ["started", "load_started", "load_over", "complete", "load_over"]
    again = memleak(runs, "report", "leaky", "--json")
    assert again.returncode == code
    kept, found = result_of(folder), json.loads(again.stdout)
    assert (found["outcome"], found["why"], found["leaks"]) == (kept["outcome"], kept["why"], kept["leaks"])
    again = memleak(runs, "report", "leaky")
    assert (again.returncode, again.stdout.splitlines()[0], again.stderr) == (code, text.splitlines()[0], "")


def test_a_service_that_keeps_nothing_is_clean(runs: Path) -> None:
    code, text = printed(runs, "fixed")
    result = json.loads(text)
    assert (code, result["outcome"]) in ((0, "CLEAN"), (3, "INCONCLUSIVE")), text
    assert all(growth["bytes_per_request"]["value"] < MARGINAL_BYTES for growth in result["endpoints"])
    assert result["load"]["failures"] == 0
    assert result == result_of(runs / "fixed")


def test_a_fix_is_verified(runs: Path) -> None:
    verified = memleak(runs, "verify", "leaky", "fixed")
    assert (verified.returncode, verified.stdout.split(":")[0]) == (0, "FIXED"), verified
    verified = memleak(runs, "verify", "fixed", "leaky", "--max-mb-per-min", "5", "--json")
    assert (verified.returncode, json.loads(verified.stdout)["answer"]) == (1, "not fixed")
    # One run, as JSON, against a budget.
    assert memleak(runs, "verify", "leaky/result.json", "--max-mb-per-min", "100000").returncode == 0


@needs_gunicorn
def test_gunicorn_s_workers_under_the_user_s_own_load(tmp_path: Path) -> None:
    write_shop(tmp_path, LEAKY)
    ended = memleak(
        tmp_path,
        *("soak", "--duration", "7s", *QUICK, *MANY),
        *("--locustfile", write_load(tmp_path), "--out", "run", *GUNICORN),
    )
    assert ended.returncode == 1, ended
    result = result_of(tmp_path / "run")
    assert result["workers"] == 2
    assert len({hello["pid"] for hello in recorded(tmp_path / "run", "hello")}) == 2
    assert_accused_rightly(result)
    assert HELD.search(ended.stdout)


def test_a_server_that_runs_already_is_seen_from_outside_and_goes_on(tmp_path: Path) -> None:
    write_shop(tmp_path, LEAKY)
    port, master_port = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    with serving(tmp_path, port) as server:
        until(lambda: answers(port), "the server")
        options = ("--url", url, *GENERATED, "--duration", "3s", "--processes", "2", "--out", "two")
        ended = memleak(tmp_path, "soak", *options)
        assert_outside(ended, tmp_path / "two")
        assert server.is_running()

        # And joining the run of a master, which another machine may have.
        write_load(tmp_path)
        master = [sys.executable, "-m", "locust", "-f", "load.py", "--master", "--headless", "--expect-workers", "1"]
        master += ["--host", url, "--master-bind-port", str(master_port)]
        master += ["-u", "3", "-r", "100", "-t", f"{PATIENCE_S:.0f}s"]
        with subprocess.Popen(master, cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as leader:
            try:
                watched = ("--url", url, "--pid", str(server.pid), *QUICK, "--duration", "3s", "--out", "joined")
                joining = ("--locustfile", "load.py", "--master-host", "127.0.0.1", "--master-port", str(master_port))
                ended = memleak(tmp_path, "soak", *watched, *joining)
            finally:
                leader.kill()
        assert_outside(ended, tmp_path / "joined")
        assert result_of(tmp_path / "joined")["load"]["users"] == 3  # as the master has it, not as we were asked
        assert server.is_running()


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def assert_outside(ended: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert ended.returncode in (0, 1, 3), ended
    result = result_of(folder)
    assert (result["basis"], result["endpoints"], result["failure"]) == ("RSS from outside", [], "")
    assert result["load"]["requests"] > 0
    assert "the server was not started here: it is seen from outside only" in " ".join(ended.stdout.split())
    assert [curve["name"] for curve in result["curves"]] == ["RSS from outside"]


# What is asked wrongly


@pytest.mark.parametrize(
    "arguments, reason",
    [
        ("", "what to soak: expects an app such as shop.main:app, a command after --, or --url"),
        ("shop", "the app 'shop' does not name an object: write MODULE:NAME, such as shop:app"),
        ("shop:app --duration 5x", "--duration: expects a time such as 30m, 90s or 1h30m, got '5x'"),
        ("shop:app --users 0", "users: expects at least 1, got 0"),
        ("shop:app --spawn-rate -4", "spawn_rate: expects a number of at least 0, got -4"),
        ("shop:app --port 99999", "port: expects 0 to 65535, got 99999"),
        ("shop:app --host 192.0.2.1", "host: no server can listen on 192.0.2.1 here (Cannot assign requested address)"),
        ("shop:app --health nope", "health: expects a path such as /health, got 'nope'"),
        ("shop:app --locustfile nope.py", "The locustfile {cwd}/nope.py does not exist."),
        ("shop:app --openapi nope.json", "openapi: {cwd}/nope.json is no file"),
        (
            "shop:app --master-host 127.0.0.1",
            "master_host: joining a distributed run needs its locustfile (--locustfile)",
        ),
        (
            "shop:app --url http://127.0.0.1:1",
            "shop:app and a server that runs already (--url, --pid): give one of them",
        ),
        ("--url http://127.0.0.1:1", "url: no process is seen to listen at 127.0.0.1:1; name it by --pid"),
        (
            "-- uvicorn shop:app",
            (
                "the command 'uvicorn shop:app' does not say which port to listen on: "
                "write {{port}} or {{bind}} where the number or host:port belongs "
                "(memleak explain command-without-port)"
            ),
        ),
        ("--resume nix", "nix holds no run: expects the folder that `memleak soak` made (memleak explain not-a-run)"),
        ("--resume nix --users 3", "--resume goes on with a run as it was asked for: leave --users away"),
    ],
)
def test_what_cannot_be_soaked_is_refused_before_anything_starts(tmp_path: Path, arguments: str, reason: str) -> None:
    write_shop(tmp_path)
    ended = memleak(tmp_path, "soak", *arguments.split())
    assert_refused(ended, f"memleak soak: {reason.format(cwd=tmp_path)}")
    started = [path.name for path in tmp_path.iterdir() if path.is_dir() and any(path.glob("server.log"))]
    assert not started


def test_a_folder_that_holds_a_run_is_neither_overwritten_nor_resumed_when_complete(runs: Path) -> None:
    before = (runs / "leaky" / "readings.jsonl").read_bytes()
    ended = memleak(runs, "soak", "shop:app", "--out", "leaky")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "holds a run already: name another folder, or go on with it by --resume" in ended.stderr
    ended = memleak(runs, "soak", "--resume", "leaky")
    assert_refused(ended, "memleak soak: leaky has run its whole time: nothing is left of it (memleak report shows it)")
    assert (runs / "leaky" / "readings.jsonl").read_bytes() == before


def test_a_server_that_does_not_come_up_is_a_failure_told_with_its_last_words(tmp_path: Path) -> None:
    ended = memleak(tmp_path, "soak", "nobody_has_this:app", "--out", "run")
    assert (ended.returncode, ended.stdout) == (4, "")
    assert "memleak soak: the server exited with code " in ended.stderr
    assert 'Could not import module "nobody_has_this"' in ended.stderr
    assert "Traceback" not in ended.stderr
    again = memleak(tmp_path, "report", "run")
    assert again.returncode == 4
    assert "failed: the server exited with code " in again.stdout


def test_a_folder_without_a_readable_run_is_refused(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(runs / "leaky", folder)
    for damage, reason in {
        '{"app': "damaged/run.json cannot be read (Unterminated string starting at: line 1 column 2 (char 1))",
        "[]": "damaged/run.json is not the plan of a run",
        '{"app": 3}': "damaged/run.json is not the plan of a run (app: expects str, got 3)",
    }.items():
        (folder / "run.json").write_text(damage)
        assert_refused(memleak(tmp_path, "report", "damaged"), f"memleak report: {reason}")
    assert_refused(memleak(tmp_path, "verify", "damaged"), f"memleak verify: {reason}")
    assert_refused(memleak(tmp_path, "soak", "--resume", "damaged"), f"memleak soak: {reason}")
    (tmp_path / "empty").mkdir()
    reason = "empty holds no run: expects the folder that `memleak soak` made (memleak explain not-a-run)"
    assert_refused(memleak(tmp_path, "report", "empty"), f"memleak report: {reason}")


def assert_refused(ended: subprocess.CompletedProcess[str], sentence: str) -> None:
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", f"{sentence}\n")


def test_a_result_that_cannot_be_read_is_refused(runs: Path, tmp_path: Path) -> None:
    newer = {**result_of(runs / "leaky"), "version": 99}
    (tmp_path / "newer.json").write_text(json.dumps(newer))
    assert_refused(
        memleak(tmp_path, "verify", str(runs / "leaky"), "newer.json"),
        "memleak verify: newer.json has version 99, and this memleak reads version 1: soak it again "
        "(memleak explain not-a-run)",
    )
    assert_refused(
        memleak(tmp_path, "verify", "absent"),
        "memleak verify: absent does not exist: expects the folder of a run, or its result as JSON "
        "(memleak explain not-a-run)",
    )


def test_a_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    write_shop(tmp_path)
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        Running(tmp_path, "soak", "shop:app", "--port", str(other.getsockname()[1])) as running,
    ):
        ended = running.end()
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.endswith(
        "already: end it, or leave its port away to have a free one (memleak explain port-in-use)\n"
    )
