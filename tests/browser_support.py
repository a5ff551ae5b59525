"""A real Chromium without a window, driven over a pipe in its own protocol: no library, and no port to be taken."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

CHROMIUM: Final = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

PATIENCE_S: Final = 60.0
"""Many times what a page takes on a slow machine; nothing waits that long where all is well."""

# The browser reads commands from descriptor 3 and writes to 4. The two are moved there in a small process of its
# own: to do that between fork and exec of this one is what threads forbid.
_TO_3_AND_4: Final = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3])
os.dup2(read, 3)
os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""

_FLAGS: Final = (
    "--headless=new",
    "--remote-debugging-pipe",
    # A container's root has no sandbox, and its /dev/shm is small.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
)

CONTRASTS: Final = """
(() => {
  const channels = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b]
    .map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const found = channels(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  const poor = [];
  let seen = 0;
  for (const one of document.querySelectorAll("body *")) {
    const isText = [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!isText || !one.getClientRects().length || one.disabled) continue;
    const style = getComputedStyle(one);
    const levels = [light(channels(one.closest("svg") ? style.fill : style.color)), light(ground(one))].sort();
    const ratio = (Math.max(...levels) + 0.05) / (Math.min(...levels) + 0.05);
    seen += 1;
    if (ratio < 4.5) poor.push([one.tagName, one.textContent.slice(0, 40), ratio]);
  }
  return [seen, poor];
})()
"""
"""How many texts are seen, and those whose contrast with their ground is below 4.5."""


class Browser:
    """The process, and the two pipes to it."""

    def __init__(self, write_fd: int, read_fd: int) -> None:
        self._write_fd = write_fd
        self._read_fd = read_fd
        self._unread = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def command(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """What the browser answers to a command; the events that come before it are kept."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write_fd, json.dumps(message).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == self._number:
                assert "error" not in told, told
                result: dict[str, Any] = told["result"]
                return result
            self.events.append(told)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._read_fd], [], [], PATIENCE_S)
            chunk = os.read(self._read_fd, 1 << 16) if ready else b""
            assert chunk, "the browser says nothing"
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\0")
        told: dict[str, Any] = json.loads(line)
        return told

    @contextlib.contextmanager
    def page(self, url: str, *, width: int = 1440, height: int = 900, dark: bool = False) -> Iterator[Page]:
        """Open an address, in a window of its own with no cookies and nothing stored."""
        context = self.command("Target.createBrowserContext")["browserContextId"]
        target = self.command("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        try:
            for domain in ("Page", "Runtime", "Log", "Network"):
                page.command(f"{domain}.enable")
            page.command(
                "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                mobile=width < 500,
            )  # fmt: skip
            scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
            page.command("Emulation.setEmulatedMedia", features=scheme)
            page.command("Page.navigate", url=url)
            yield page
        finally:
            self.command("Target.disposeBrowserContext", browserContextId=context)


class Page:
    """One tab."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def command(self, method: str, **params: Any) -> dict[str, Any]:
        """A command to this tab."""
        return self._browser.command(method, self._session, **params)

    def value(self, expression: str) -> Any:
        """What JavaScript makes of an expression."""
        found = self.command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, expression: str, patience_s: float = PATIENCE_S) -> Any:
        """Wait for an expression that comes to be true; gives what it then is."""
        end = time.monotonic() + patience_s
        # While a page is loaded there is nothing that an expression could ask.
        while not (found := self.value(f"(() => {{ try {{ return {expression}; }} catch {{ return false; }} }})()")):
            assert time.monotonic() < end, f"never true: {expression}; {self.value('document.body?.innerText')}"
            time.sleep(0.1)
        return found

    def texts(self, selector: str) -> list[str]:
        """The text of each element that a selector finds."""
        found: list[str] = self.value(f"[...document.querySelectorAll({selector!r})].map((one) => one.textContent)")
        return found

    def complaints(self) -> list[str]:
        """What the console says of errors, and every breach of the policy."""
        self.value("1")  # what happened until now has been told then
        found = []
        for event in self._browser.events:
            if event.get("sessionId") != self._session:
                continue
            params = event["params"]
            if event["method"] == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(f"{params['entry']['text']} ({params['entry'].get('url')})")
            elif event["method"] == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"]))
            elif event["method"] == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                found.append(str(params["args"]))
        return found

    def asked(self) -> list[dict[str, Any]]:
        """The requests that the tab has made."""
        return [
            event["params"]["request"]
            for event in self._browser.events
            if event.get("sessionId") == self._session and event["method"] == "Network.requestWillBeSent"
        ]

    def picture(self, path: Path) -> None:
        """Write the whole page as PNG."""
        shot = self.command("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Run Chromium with a profile of its own in `folder`."""
    assert CHROMIUM is not None
    read_by_it, write_fd = os.pipe()
    read_fd, written_by_it = os.pipe()
    command = [sys.executable, "-c", _TO_3_AND_4, str(read_by_it), str(written_by_it), CHROMIUM, *_FLAGS]
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--user-data-dir={folder / 'profile'}"],
            pass_fds=(read_by_it, written_by_it), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    os.close(read_by_it)
    os.close(written_by_it)
    try:
        yield Browser(write_fd, read_fd)
    finally:
        # Without its pipe it ends by itself, and with it the processes that it has started.
        os.close(write_fd)
        os.close(read_fd)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
