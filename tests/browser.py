"""A browser for tests: headless Chromium over the WebDriver protocol, without any package."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
DRIVER = shutil.which("chromedriver")
#: why there is no browser; empty where there is one
MISSING = " and ".join(
    name for name, found in (("chromium", CHROMIUM), ("chromedriver", DRIVER)) if not found
)
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """One session. Methods are named after what a person does."""

    def __init__(self, width: int = 1366, height: int = 850) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        assert DRIVER is not None
        self.process = subprocess.Popen(
            [DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.base = f"http://127.0.0.1:{port}"
        self.session = ""
        self._wait_for_driver()
        arguments = [
            "--headless=new", "--disable-gpu", "--no-first-run", "--disable-extensions",
            f"--window-size={width},{height}", "--disable-dev-shm-usage",
        ]  # fmt: skip
        if os.geteuid() == 0:
            arguments.append("--no-sandbox")
        options = {"binary": CHROMIUM, "args": arguments}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options,
                  "goog:loggingPrefs": {"browser": "ALL"}}  # fmt: skip
        made = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.session = f"/session/{made['sessionId']}"

    def _wait_for_driver(self) -> None:
        for _ in range(200):
            try:
                if self._call("GET", "/status")["ready"]:
                    return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("chromedriver did not start")

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            # machines with a proxy must not ask it for this one
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(error.read().decode()) from None

    def close(self) -> None:
        try:
            self._call("DELETE", self.session)
        finally:
            self.process.terminate()
            self.process.wait(timeout=20)

    def open(self, path: Path) -> None:
        self._call("POST", self.session + "/url", {"url": path.absolute().as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript; what it returns."""
        body = {"script": script, "args": list(arguments)}
        return self._call("POST", self.session + "/execute/sync", body)

    def find(self, selector: str) -> dict[str, str]:
        return self._call(
            "POST", self.session + "/element", {"using": "css selector", "value": selector}
        )

    def point(self, selector: str, x: int, y: int, click: bool = False) -> None:
        """Move to a point of an element, from its upper left corner, and click if asked."""
        self.run("document.querySelector(arguments[0]).scrollIntoView({block: 'center'})", selector)
        box = self.run(
            "const b = document.querySelector(arguments[0]).getBoundingClientRect();"
            "return [b.left, b.top]", selector,
        )  # fmt: skip
        moves: list[dict[str, Any]] = [
            {"type": "pointerMove", "x": round(box[0] + x), "y": round(box[1] + y), "duration": 30}
        ]
        if click:
            moves += [{"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        self._act({"type": "pointer", "id": "mouse", "actions": moves})

    def click(self, selector: str) -> None:
        self._call("POST", f"{self.session}/element/{self.find(selector)[_ELEMENT]}/click", {})

    def type(self, selector: str, text: str) -> None:
        element = self.find(selector)[_ELEMENT]
        self._call("POST", f"{self.session}/element/{element}/value", {"text": text})

    def press(self, key: str) -> None:
        """Press a key where the focus is."""
        self._act({"type": "key", "id": "keys", "actions": [
            {"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]})  # fmt: skip

    def wheel(self, selector: str, x: int, y: int, by: int) -> None:
        box = self.run(
            "const b = document.querySelector(arguments[0]).getBoundingClientRect();"
            "return [b.left, b.top]", selector,
        )  # fmt: skip
        self._act({"type": "wheel", "id": "wheel", "actions": [
            {"type": "scroll", "x": round(box[0] + x), "y": round(box[1] + y), "deltaX": 0,
             "deltaY": by, "duration": 0}]})  # fmt: skip

    def _act(self, source: dict[str, Any]) -> None:
        self._call("POST", self.session + "/actions", {"actions": [source]})
        # frames are drawn when the browser likes: two are enough for what was done to be seen
        self._call("POST", self.session + "/execute/async", {
            "script": "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))",
            "args": []})  # fmt: skip

    def log(self) -> list[dict[str, Any]]:
        """What the console has got since the last call."""
        return self._call("POST", self.session + "/se/log", {"type": "browser"})

    def screenshot(self, path: Path, full: bool = False) -> None:
        if full:
            high = self.run("return document.documentElement.scrollHeight")
            self._call("POST", self.session + "/window/rect", {"width": 1366, "height": high + 150})
        path.write_bytes(base64.b64decode(self._call("GET", self.session + "/screenshot")))

    def print(self, path: Path) -> None:
        made = self._call("POST", self.session + "/print", {"orientation": "landscape"})
        path.write_bytes(base64.b64decode(made))
