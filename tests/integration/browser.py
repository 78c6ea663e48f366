"""A headless Chromium of one page, driven over its own debugging protocol: nothing to install but the browser."""

import http.client
import json
import shutil
import subprocess
import time
from pathlib import Path

from websockets.sync.client import connect

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-port=0",
    "--autoplay-policy=no-user-gesture-required", "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)  # fmt: skip
PATIENCE_S = 60


class Browser:
    """One page.

    Args:
        folder: for the browser's own files.
        microphone: a WAV file that the page's microphone hears once, from when it is opened.

    Attributes:
        problems: errors that the page or its console reported.
        addresses: everything that it asked for.
    """

    def __init__(self, folder: Path, microphone: Path | None = None):
        profile = folder / "profile"
        heard = [] if microphone is None else [f"--use-file-for-fake-audio-capture={microphone}%noloop"]
        self._process = subprocess.Popen(
            [CHROMIUM, *FLAGS, *heard, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.problems, self.addresses = [], []
        self._number = 0
        self._connection = connect(self._address(profile / "DevToolsActivePort"), max_size=None, proxy=None)
        self._wire = self._connection.__enter__()
        for domain in ("Page", "Runtime", "Log", "Network", "DOM", "Accessibility"):
            self.call(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._wire.close()
        self._process.terminate()
        self._process.wait(10)

    def call(self, method, **params):
        """One command of the protocol; gives its result."""
        self._number += 1
        self._wire.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = json.loads(self._wire.recv(timeout=PATIENCE_S))
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            self._notice(message)

    def open(self, address, width=1280, height=900):
        """Go to a page."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")

    def run(self, script):
        """The value of an expression, awaited where it is a promise."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script, timeout_s=PATIENCE_S):
        """Wait until an expression is true; gives its value."""
        end_s = time.monotonic() + timeout_s
        while not (value := self.run(script)):
            assert time.monotonic() < end_s, f"never: {script}; the page says: {self.run('document.body.innerText')}"
            time.sleep(0.05)
        return value

    def text(self, selector):
        """The visible text of an element."""
        return self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    def click(self, selector):
        """Click in the middle of an element, as a mouse does."""
        x, y = self.run(
            f"(() => {{ const one = document.querySelector({json.dumps(selector)});"
            "one.scrollIntoView({block: 'center'}); const box = one.getBoundingClientRect();"
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def write(self, text):
        """Type into what has the focus."""
        self.call("Input.insertText", text=text)

    def press(self, key, code):
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def choose_file(self, selector, path):
        """Give a file to a file input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def _notice(self, message):
        params = message.get("params", {})
        if message["method"] == "Runtime.exceptionThrown":
            self.problems.append(params["exceptionDetails"].get("exception", {}).get("description", "an exception"))
        elif message["method"] == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(params["entry"]["text"])
        elif message["method"] == "Network.requestWillBeSent":
            self.addresses.append(params["request"]["url"])
        elif message["method"] == "Network.webSocketCreated":
            self.addresses.append(params["url"])

    def _address(self, port_file):
        """Of the page's debugger, once the browser is up."""
        end_s = time.monotonic() + PATIENCE_S
        while not (port_file.is_file() and port_file.read_text().strip()):
            assert time.monotonic() < end_s, "Chromium did not start"
            assert self._process.poll() is None, "Chromium ended at once"
            time.sleep(0.05)
        port = int(port_file.read_text().split()[0])
        while True:
            wire = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            wire.request("GET", "/json")
            pages = [one for one in json.loads(wire.getresponse().read()) if one["type"] == "page"]
            if pages:
                return pages[0]["webSocketDebuggerUrl"]
            assert time.monotonic() < end_s, "Chromium has no page"
            time.sleep(0.05)
