"""A headless Chromium that is driven through its own protocol over two pipes: no package needed."""

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--disable-extensions", "--remote-debugging-pipe"),
)
PATIENCE = 60.0  # seconds for an answer, on a machine that does other things


def find_chromium() -> str | None:
    """The program, where the machine has one that can be handed two pipes."""
    if os.name == "nt":
        return None
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


class Page:
    """A tab; `events` is everything that it has told since it was opened."""

    def __init__(self, send: int, receive: int) -> None:
        self.send, self.receive = send, receive
        self.numbers = itertools.count(1)
        self.events: list[dict[str, Any]] = []
        self.rest = b""
        self.session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """Ask and wait for the answer."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.send, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            part = os.read(self.receive, 1 << 20)
            assert part, "Chromium ended"
            self.rest += part
        text, _, self.rest = self.rest.partition(b"\0")
        return dict(json.loads(text))

    def open(self, file: Path, width: int, height: int = 900, dark: bool = False) -> None:
        """Load a file at a size in pixels and in a theme, and wait until it is there."""
        self.events.clear()
        mobile = width < 600
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[theme])
        self.call("Page.navigate", url=file.as_uri())
        end = time.monotonic() + PATIENCE
        while not self.of_kind("Page.loadEventFired"):  # the page of before is complete too
            assert time.monotonic() < end, f"{file} does not load"
            time.sleep(0.05)

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def screenshot(self, file: Path) -> None:
        """The whole page as a PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    def of_kind(self, *methods: str) -> list[dict[str, Any]]:
        """The events of these kinds so far."""
        self.evaluate("0")  # what came before has arrived with the answer
        return [event["params"] for event in self.events if event.get("method") in methods]


@contextlib.contextmanager
def opened(program: str, profile: Path) -> Iterator[Page]:
    """A tab of a Chromium with an empty profile, which ends with the block."""
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    # the protocol is spoken on descriptors 3 and 4
    command = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
    words = ["bash", "-c", command, program, *FLAGS, f"--user-data-dir={profile}"]
    process = subprocess.Popen(
        words,
        pass_fds=(theirs_in, theirs_out),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Page(ours_out, ours_in)
    finally:
        os.close(ours_out)
        os.close(ours_in)
        process.terminate()
        process.wait(PATIENCE)
