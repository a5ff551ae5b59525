"""Tables of memory, deaths by want of it, and what preceded them."""

from __future__ import annotations

import pytest
from logs_support import levels, read

from pytest_memleak.logs import deaths

KILLED = (
    "[ 9000.500000] Memory cgroup out of memory: Killed process 1234 (python) total-vm:900000kB, anon-rss:500000kB, "
    "file-rss:1000kB, shmem-rss:0kB, UID:0 pgtables:1234kB oom_score_adj:0\n"
)
CONSTRAINT = (
    "[ 9000.400000] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=abc,mems_allowed=0,"
    "oom_memcg=/docker/abc,task_memcg=/docker/abc,task=python,pid=1234,uid=0\n"
)

LINES = [
    (KILLED, deaths.KERNEL, 1234, "python", True),
    ("Out of memory: Killed process 77 (gunicorn: work) anon-rss:5kB", deaths.KERNEL, 77, "gunicorn: work", False),
    ("Out of memory: Kill process 77 (py)\nKilled process 77 (py) anon-rss:5kB", deaths.KERNEL, 77, "py", False),
    ("[1] [ERROR] Worker (pid:42) was sent SIGKILL! Perhaps out of memory?", deaths.SUSPECTED, 42, "worker", False),
    ("web-1   0/1     OOMKilled   3 (10s ago)   5m", deaths.OOM_KILLED, 0, "web-1", True),
    ("shop   web-1   0/1     OOMKilled   3   5m", deaths.OOM_KILLED, 0, "shop/web-1", True),
    ("2m   Warning   OOMKilling   pod/web-1   Memory limit", deaths.OOM_KILLED, 0, "web-1", True),
    ("      Reason:       OOMKilled", deaths.OOM_KILLED, 0, "", True),
    ('{"reason":"OOMKilled","pod":"web-1"}', deaths.OOM_KILLED, 0, "web-1", True),
    ("2026-01-01T00:00:00Z container oom 4a5b6c7d8e9f (image=python, name=web)", deaths.OOM_KILLED, 0, "web", True),
]  # fmt: skip


@pytest.mark.parametrize("text, kind, pid, name, is_limit", LINES)
def test_a_death(text: str, kind: str, pid: int, name: str, is_limit: bool) -> None:
    (told,) = read(text).deaths.told
    death = told.death
    assert (death.kind, death.pid, death.name, death.is_limit) == (kind, pid, name, is_limit)


def test_the_lines_of_the_kernel_about_one_death_are_one() -> None:
    reaped = "[ 9000.600000] oom_reaper: reaped process 1234 (python), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB\n"
    invoked = "[ 9000.300000] python invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0\n"
    reading = read(invoked + CONSTRAINT + KILLED + reaped)
    (told,) = reading.deaths.told
    assert (told.death.level, told.death.cgroup) == (501_000 * 1024, "/docker/abc")
    assert (told.line, told.when) == (2, "9000.400000")
    assert reading.book.lives == {}


def test_what_a_master_suspects_and_the_kernel_tells_is_one_death() -> None:
    suspected = "[2026-01-01 00:05:00 +0000] [1] [ERROR] Worker (pid:{}) was sent SIGKILL! Perhaps out of memory?\n"
    figures = "".join(f"[2026-01-01 00:0{at}:00 +0000] [1234] rss={100 + 50 * at}MB\n" for at in range(5))
    reading = read(figures + suspected.format(1234) + KILLED + suspected.format(42))
    both, other = reading.deaths.told
    assert (both.death.kind, both.death.level, both.readings) == (deaths.KERNEL, 501_000 * 1024, 5)
    assert (other.death.kind, other.death.pid) == (deaths.SUSPECTED, 42)
    # Many deaths later the number comes again, and is another process.
    others = "".join(suspected.format(pid) for pid in range(50, 60))
    again = read(suspected.format(1234) + KILLED + others + suspected.format(1234))
    assert [told.death.kind for told in again.deaths.told if told.death.pid == 1234] == [
        deaths.KERNEL, deaths.SUSPECTED,
    ]  # fmt: skip


def test_what_preceded_a_death_is_told() -> None:
    text = "".join(
        f"[2026-01-01 00:0{at}:00 +0000] [42] rss={100 + 50 * at}MB\n[2026-01-01 00:0{at}:00 +0000] [43] rss=90MB\n"
        for at in range(5)
    )
    text += "[2026-01-01 00:05:00 +0000] [1] [ERROR] Worker (pid:42) was sent SIGKILL! Perhaps out of memory?\n"
    text += "[2026-01-01 00:06:00 +0000] [42] [INFO] rss=100MB\n"
    reading = read(text)
    (told,) = reading.deaths.told
    assert (told.first, told.last, told.seconds, told.readings) == (1e8, 3e8, 240.0, 5)
    assert told.line == 11
    assert [owner for owner, _, _ in levels(reading)] == ["pid 42", "pid 42", "pid 43"]


def test_a_death_in_another_log_finds_its_process() -> None:
    from pytest_memleak.logs.reading import LogReading

    reading = LogReading(year=2026)
    reading.open("kern.log")
    reading.feed(KILLED.encode())
    reading.close()
    reading.open("app.log")
    reading.feed(b"2026-01-01 00:00:00 pid=1234 rss=300MB\n")
    reading.close()
    reading.deaths.finish()
    assert reading.deaths.told[0].last == 3e8


def test_deaths_are_bounded() -> None:
    text = "".join(f"Killed process {pid} (python) total-vm:1kB, anon-rss:1kB\n" for pid in range(1, 1300))
    reading = read(text)
    assert (len(reading.deaths.told), reading.deaths.more) == (1000, 299)


TOP = """\
Thu Jan  1 00:0{at}:00 UTC 2026
NAME        CPU(cores)   MEMORY(bytes)
web-1       12m          {one}Mi
web-2       250m         80Mi
"""
STATS = (
    "CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT     MEM %     NET I/O     BLOCK I/O   PIDS\n"
    "4a5b6c7d8e9f   web       0.50%     {one}MiB / 1.944GiB   6.20%     1kB / 2kB   0B / 0B     5\n"
)


def test_kubectl_top_repeated() -> None:
    reading = read("".join(TOP.format(at=at, one=100 + at) for at in range(3)))
    assert {str(name.owner): life.points()[0] for name, (life,) in reading.book.lives.items()} == {
        "web-1": (1767225600.0, 1767225660.0, 1767225720.0),
        "web-2": (1767225600.0, 1767225660.0, 1767225720.0),
    }
    assert reading.forms == {"kubectl top, docker stats": 6}


@pytest.mark.parametrize(
    "text, owner",
    [
        ("NAMESPACE   NAME    CPU(cores)   MEMORY(bytes)\nshop   web-1   1m   100Mi\n", "shop/web-1"),
        ("POD     NAME   CPU(cores)   MEMORY(bytes)   \nweb-1   app    1m   100Mi           \n", "web-1/app"),
        ("NAME    CPU(cores)   CPU%   MEMORY(bytes)   MEMORY%\nnode-1   1m   5%   100Mi   10%\n", "node-1"),
        ("web-1   1m   100Mi\n", "web-1"),
        (STATS.format(one=100), "web"),
        ("\x1b[H\x1b[J" + STATS.format(one=100).replace("\n", "\x1b[K\n"), "web"),
        ("CONTAINER   CPU %   MEM USAGE / LIMIT   MEM %\n4a5b   0.50%   100MiB / 1GiB   6%\n", "4a5b"),
        ("4a5b   web   0.50%   100MiB / 1GiB   6%\n", "web"),
    ],
)
def test_tables(text: str, owner: str) -> None:
    assert levels(read(text)) == [(owner, "memory", [104.858])]


@pytest.mark.parametrize("block", [1, 7, 50, 1000])
def test_blocks_may_end_anywhere(block: int) -> None:
    text = TOP.format(at=0, one=100) + STATS.format(one=5) + KILLED + "RSS: 12 MB\n" + '{"rss_mb": 5}'
    whole, cut = read(text), read(text, block=block)
    assert (levels(cut), cut.forms, cut.lines) == (levels(whole), whole.forms, whole.lines)
    assert [told.line for told in cut.deaths.told] == [told.line for told in whole.deaths.told] == [7]
