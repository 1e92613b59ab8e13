"""Tables and pages of results, and a browser to look at them."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

EMPTY = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


class _Page(HTMLParser):
    """Checks that tags nest, and keeps their names and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


@pytest.fixture(scope="session")
def tags_of() -> Callable[[str], list[tuple[str, dict[str, str | None]]]]:
    """The tags of a page with their attributes; tags that do not nest are an error."""
    return lambda text: _Page(text).tags


_LOOK = """(() => {
  const of = getComputedStyle(document.body);
  const grey = rgb => rgb.match(/\\d+/g).slice(0, 3).reduce((a, b) => +a + +b) / 3;
  return [document.documentElement.scrollWidth - innerWidth, grey(of.backgroundColor), grey(of.color)];
})()"""
"""How far a page is too wide, and how light its ground and its letters are, up to 255."""


class Browser:
    """Chromium without a window, spoken to over a pipe in its DevTools protocol."""

    def __init__(self, profile: Path) -> None:
        commands, answers = os.pipe(), os.pipe()
        self._commands, self._answers, self._left, self._number = commands[1], answers[0], b"", 0
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        # Chromium reads from descriptor 3 and writes to 4, which here are taken.
        shell = ["bash", "-c", f'exec "$@" 3<&{commands[0]} 4>&{answers[1]}', "bash"]
        self._process = subprocess.Popen(
            [*shell, "chromium", *options, f"--user-data-dir={profile}"],
            pass_fds=(commands[0], answers[1]),
            stderr=subprocess.DEVNULL,
        )
        os.close(commands[0])
        os.close(answers[1])
        self._session: dict[str, str] = {}
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events are passed over."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": params, **self._session}
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def show(self, page: Path, width: int, *, phone: bool = False, dark: bool = False, media: str = "") -> None:
        """Load a page on a screen of some width, or as it is printed."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=phone)
        self.ask("Page.navigate", url=page.as_uri())
        self.run("new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))")

    def run(self, script: str) -> Any:
        """The value of a piece of JavaScript, or of what it promises."""
        told = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def look(self) -> Any:
        """By how many pixels the page is too wide, and how light its ground and its letters are, up to 255."""
        return self.run(_LOOK)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=60)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            some = os.read(self._answers, 1 << 20)
            assert some, "the browser has ended"
            self._left += some
        message, _, self._left = self._left.partition(b"\0")
        told: dict[str, Any] = json.loads(message)
        return told


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not shutil.which("chromium"):
        pytest.skip("needs the browser chromium on the path")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()
