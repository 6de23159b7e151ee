"""A headless Chromium that is clicked and typed into, over its DevTools pipe: no driver, no package."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--remote-debugging-pipe",
    "--window-size=1200,800",
)
PATIENCE_SECONDS = 20.0


class Browser:
    """One tab. What is clicked is clicked with the mouse, at the middle of the element."""

    def __init__(self, profile: Path) -> None:
        """Start it with a profile of its own."""
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        assert chromium, "no Chromium: apt-get install chromium"
        ours, theirs = os.pipe(), os.pipe()
        self._to, self._from = os.fdopen(ours[1], "wb"), os.fdopen(theirs[0], "rb")
        # it reads commands from descriptor 3 and writes answers to 4
        shell = f'exec "$@" 3<&{ours[0]} 4>&{theirs[1]}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "bash", chromium, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(ours[0], theirs[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(ours[0])
        os.close(theirs[1])
        self._number, self._session = 0, ""
        self.dialogs: list[str] = []
        self.accepts = True
        pages = self._call("Target.getTargets")["targetInfos"]
        page = next(one["targetId"] for one in pages if one["type"] == "page")
        self._session = self._call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        self._call("Page.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._to.close()
        self._process.terminate()
        self._process.wait(timeout=30)
        self._from.close()

    def open(self, url: str) -> None:
        """Load a page."""
        self._call("Page.navigate", url=url)

    def value(self, script: str) -> Any:
        """What a JavaScript expression gives."""
        return self._call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def text(self, selector: str) -> str:
        """Text of an element."""
        return str(self.value(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def wait(self, until: Callable[[], bool], what: str) -> None:
        """Wait until something is so.

        Raises:
            AssertionError: It did not come to be.
        """
        end = time.monotonic() + PATIENCE_SECONDS
        while not until():
            assert time.monotonic() < end, f"not in {PATIENCE_SECONDS:g} s: {what}"
            time.sleep(0.05)

    def click(self, selector: str) -> None:
        """Press and release the mouse on an element; what lies over it gets the click, as for a person."""
        box = self.value(
            f"(() => {{ const r = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            " return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def type(self, selector: str, text: str) -> None:
        """Click into a field and type."""
        self.click(selector)
        self._call("Input.insertText", text=text)

    def screenshot(self, path: Path, *, dark: bool) -> None:
        """Write a picture of the page as somebody with a light or dark desktop sees it."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def _call(self, method: str, **parameters: Any) -> Any:
        wanted = self._send(method, parameters)
        while True:
            message = self._read()
            if message.get("method") == "Page.javascriptDialogOpening":
                self.dialogs.append(message["params"]["message"])
                self._send("Page.handleJavaScriptDialog", {"accept": self.accepts})
            elif message.get("id") == wanted:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]

    def _send(self, method: str, parameters: dict[str, Any]) -> int:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        self._to.flush()
        return self._number

    def _read(self) -> dict[str, Any]:
        text = bytearray()
        while (byte := self._from.read(1)) != b"\0":
            assert byte, "the browser has gone"
            text += byte
        found: dict[str, Any] = json.loads(text)
        return found
