"""Take the pictures of the report and of the tracker that the documentation shows, after `make repro`.

Usage: python docs/screenshots.py [PROJECT]    needs the browser chromium
"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

IMAGES = Path(__file__).parent / "images"

SIZE = (1200, 800)

ASSISTANT = 413
"""Width of the panel with which MLflow opens, which is cut off."""

VIEW = "#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=models"
"""The view of the models that `emofuse track` makes."""

COLORS = 128

PATIENCE_S = 120


def main(project: Path) -> None:
    """Take both pictures of a project whose pipeline has run."""
    (report,) = (project / "data/scores/demo").glob("*/report.html")
    take(report.resolve().as_uri(), IMAGES / "report.png")
    with tracker(project) as address:
        take(
            f"{address}/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=models",
            IMAGES / "tracker.png",
            beyond=ASSISTANT,
        )


def take(address: str, picture: Path, beyond: int = 0) -> None:
    """Save a page's first screen, in few colours so that the file is small, but for ``beyond`` pixels on its right."""
    with TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.png"
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}"]
        options += [f"--window-size={SIZE[0] + beyond},{SIZE[1]}", "--virtual-time-budget=30000", f"--screenshot={raw}"]
        subprocess.run(["chromium", *options, address], check=True, timeout=PATIENCE_S, stderr=subprocess.DEVNULL)
        Image.open(raw).convert("RGB").crop((0, 0, *SIZE)).quantize(COLORS).save(picture, optimize=True)


@contextmanager
def tracker(project: Path) -> Iterator[str]:
    """Run MLflow's server on a free port of loopback, and yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["mlflow", "ui", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    server = subprocess.Popen(
        [*command, "--backend-store-uri", "sqlite:///mlflow.db"],
        cwd=project,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait(f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=PATIENCE_S)


def wait(address: str) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            urllib.request.urlopen(address, timeout=5)  # noqa: S310
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


if __name__ == "__main__":
    main(Path(sys.argv[1] if sys.argv[1:] else "."))
