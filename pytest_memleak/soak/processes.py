"""The processes of a soak: how the server and the load are started, and with what in their environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pytest_memleak import bootstrap, wire
from pytest_memleak.soak import server
from pytest_memleak.soak.channel import Channel
from pytest_memleak.soak.document import fetch_document
from pytest_memleak.soak.plan import Plan
from pytest_memleak.soak.tree import Tree
from pytest_memleak.workloads import load


def start_server(plan: Plan, channel: Channel, folder: Path) -> tuple[Tree, str]:
    """Start the plan's server with the agent in it; gives its tree and its URL. Raises StartError."""
    launch = server.launch_of(plan.app, plan.command, plan.host, plan.port)
    environment = _users_environment()
    environment["PYTHONPATH"] = bootstrap.search_path(environment)
    environment[wire.AGENT_CHANNEL], environment[wire.AGENT_KEY] = channel.address, channel.key
    log = folder / "server.log"
    tree = Tree.start(launch.command, log=log, environment=environment, cwd=Path(plan.cwd), name="server")
    return tree, launch.url


def start_load(plan: Plan, url: str, channel: Channel, folder: Path) -> Tree:
    """Start Locust against a URL. Raises LoadError, PlanError or StartError."""
    locustfile = Path(plan.locustfile) if plan.locustfile else None
    load.check_locustfile(locustfile)
    openapi = None if locustfile else _document(plan, url, folder)
    command = load.load_command(
        host=url,
        users=plan.users,
        spawn_rate=plan.spawn_rate or max(1.0, plan.users / 10),
        duration_s=None,
        locustfile=locustfile,
        openapi=openapi,
        processes=plan.processes,
        master_host=plan.master_host or None,
        # Several processes of our own meet at a port that is free; somebody else's master has told his.
        master_port=plan.master_port if plan.master_host else server.free_port(),
        extra=plan.locust_options,
    )
    environment = load.load_environment(
        channel=channel.address,
        key=bytes.fromhex(channel.key),
        openapi=openapi,
        wait_s=plan.wait_s,
        mix_period_s=plan.mix_period_s,
        master_host=plan.master_host or None,
    )
    log = folder / "load.log"
    return Tree.start(
        command, log=log, environment={**_users_environment(), **environment}, cwd=Path(plan.cwd), name="load"
    )


def _document(plan: Plan, url: str, folder: Path) -> Path:
    """The OpenAPI document that the load is made from: the user's, or the server's own."""
    if plan.openapi:
        return Path(plan.openapi)
    path = folder / "openapi.json"
    if not path.exists():
        fetch_document(url, path)
    return path


def _users_environment() -> dict[str, str]:
    environment = dict(os.environ)
    # `python -m uvicorn shop.main:app` finds the app in the current folder, as `uvicorn` does.
    environment.pop("PYTHONSAFEPATH", None)
    # A virtual environment need not be activated for its gunicorn to be found.
    environment["PATH"] = os.pathsep.join((environment.get("PATH", os.defpath), str(Path(sys.executable).parent)))
    return environment
