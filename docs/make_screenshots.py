"""Redo the pictures of MLflow's UI: ``python docs/make_screenshots.py SWEEP [OUTPUTS]``; needs Chromium."""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from mlflow.tracking import MlflowClient

PORT = 5077
IMAGES = Path(__file__).resolve().parent / "images"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
# The assistant's panel covers a quarter of the page and opens by itself.
CLOSE_ASSISTANT = """
    [...document.querySelectorAll('button')].filter(b => /close/i.test(b.dataset.componentId + b.ariaLabel)
        && /assistant/i.test(b.dataset.componentId + b.ariaLabel)).forEach(b => b.click())"""
DRAWN = "document.querySelectorAll('.js-plotly-plot .main-svg').length"
NAMED = "document.body && document.body.innerText.includes('sqnr_db')"


class Browser:
    """Chromium, steered through its debugging pipe: file descriptors 3 (to it) and 4 (from it)."""

    def __init__(self, profile: str) -> None:
        to_browser, self._to = os.pipe()
        self._from, from_browser = os.pipe()
        command = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        program = shutil.which("chromium") or shutil.which("chromium-browser") or "google-chrome"
        self.process = subprocess.Popen(
            ["bash", "-c", command, "-", program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(to_browser, from_browser),
            stderr=subprocess.DEVNULL,
        )
        self._number, self._rest, self.session = 0, b"", ""
        pages = self.ask("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in pages if target["type"] == "page")
        self.session = self.ask("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._rest:
                self._rest += os.read(self._from, 1 << 20)
            text, self._rest = self._rest.split(b"\0", 1)
            answer = json.loads(text)
            if answer.get("id") == self._number:
                return dict(answer["result"])

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        return self.ask("Runtime.evaluate", expression=script)["result"].get("value")

    def shoot(self, address: str, picture: Path, width: int, height: int, ready: str = DRAWN) -> None:
        """Open a page, wait until it is ready, by default until its charts are drawn, and keep it as a PNG."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.ask("Page.navigate", url="about:blank")
        self.ask("Page.navigate", url=address)
        deadline = time.monotonic() + 60
        while not (self.run(ready) or 0) and time.monotonic() < deadline:
            time.sleep(0.5)
        self.run(CLOSE_ASSISTANT)
        time.sleep(4)  # the rest of the charts, and the page grown wider
        picture.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot")["data"]))
        print(picture, picture.stat().st_size // 1000, "kB")


def serve(database: Path, folder: str) -> "subprocess.Popen[bytes]":
    """An MLflow server with one worker, ready to answer."""
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(PORT)]
    environment = os.environ | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    log = (Path(folder) / "server.log").open("wb")
    command += ["--backend-store-uri", f"sqlite:///{database}"]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    while process.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=5)
            return process
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(Path(log.name).read_text())


def main(sweep: str, outputs: str = "outputs") -> None:
    """Shoot the sweep's charts and its fastest run's page."""
    database = (Path(outputs) / "mlflow.db").resolve()
    client = MlflowClient(f"sqlite:///{database}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    query, order = f"tags.sweeps LIKE '% {sweep} %'", ["metrics.`speedup/ratio` DESC"]
    run = client.search_runs(experiments, query, order_by=order)[0].info
    runs = f"http://127.0.0.1:{PORT}/#/experiments/{run.experiment_id}/runs"
    view = f"?workflowType=machine_learning&viewStateShareKey={sweep}&compareRunsMode=CHART"
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = serve(database, folder)
        browser = Browser(f"{folder}/browser")
        try:
            browser.shoot(runs + view, IMAGES / "mlflow_sweep.png", 1700, 1050)
            page = f"{runs}/{run.run_id}?workflowType=machine_learning"
            browser.shoot(page, IMAGES / "mlflow_run.png", 1400, 900, NAMED)
        finally:
            for process in (browser.process, server):
                process.terminate()
                process.wait(20)


if __name__ == "__main__":
    main(*sys.argv[1:])
