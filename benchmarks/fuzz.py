"""Everything that schemathesis can think of, over every route of a real gateway.

`make fuzz` runs all its phases (examples, coverage, fuzzing, stateful) with several seeds against a
gateway process, a real MLflow beside it, both of a throwaway folder. The document is the gateway's
own /openapi.json, in which names of models are those that exist as often as not, and rows are rows.
What is checked: no status of 5xx, every answer as the document says (status, content type,
headers, body), no answer slower than 5 s, methods and tokens refused as they must be, and the
memory back to where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.gateway import MODEL, ROOT, ROW, TOKEN, prepare, running
from benchmarks.ports import free_port
from benchmarks.servers import wait_until

SLOWEST_SECONDS = 5.0
START_SECONDS = 180.0
REST_SECONDS = 60.0  # in which memory may come back
MEGABYTE = 1024 * 1024
GROWTH = 64 * MEGABYTE  # of the resident memory, after a warm-up, that is not yet a leak
# A valid name of a model that is not there is refused, and so is a row of other numbers: what is
# valid by the document is not always acceptable, and what is not by it may be (more members).
UNFIT = "positive_data_acceptance,negative_data_rejection"


def main() -> int:
    """Run, print the table; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=20_000, help="at least, of all seeds")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        prepare(state)
        with (
            mlflow(state) as address,
            running(state, port := free_port(), HOMEOSTAT_MLFLOW_URL=address) as gateway,
        ):
            url = f"http://127.0.0.1:{port}"
            wait_for(f"{url}/health/ready", MODEL)
            told = fuzz(url, state, chosen.seeds, chosen.requests, gateway.pid)
        if not told:
            print((state / "gateway.log").read_text()[-4_000:])
    return 0 if told else 1


def fuzz(url: str, folder: Path, seeds: int, requests: int, pid: int) -> bool:
    """Run all seeds and print a line for each; whether nothing was found.

    Args:
        url: Of the gateway.
        folder: For what is written meanwhile.
        seeds: How many.
        requests: To be sent at least, in all.
        pid: Of the gateway's process.
    """
    document = folder / "openapi.json"
    document.write_text(json.dumps(sharpened(httpx.get(f"{url}/openapi.json").json())))
    # The first requests load what every later one needs: memory is measured from there.
    operations = run(url, document, folder, seed=0, examples=1)["operations"]["tested"]
    base = psutil.Process(pid).memory_info().rss
    print(f"{operations} operations, {requests} requests or more, {seeds} seeds")
    print(f"{'seed':>4} {'requests':>9} {'failures':>9} {'errors':>7} {'seconds':>8} {'MB':>5}")
    sent, found = 0, 0
    for seed in range(1, seeds + 1):
        begun, here, bad, errors = time.monotonic(), 0, 0, 0
        examples = max(1, requests // seeds // operations // 2)
        while here * seeds < requests:
            report = run(url, document, folder, seed + 1_000 * here, examples)
            cases = report["test_cases"]
            here += cases["generated"]
            bad += cases["unique_failures"]
            errors += sum(each["count"] for each in report["errors"])
            for failure in report["failures"]:
                print(f"  {failure['code']} {failure['title']}: {failure['operations']}")
            for error in report["errors"]:
                print(f"  {error}")
        sent, found = sent + here, found + bad + errors
        size = psutil.Process(pid).memory_info().rss
        line = f"{seed:>4} {here:>9} {bad:>9} {errors:>7} {time.monotonic() - begun:>8.0f}"
        print(f"{line} {size / MEGABYTE:>5.0f}", flush=True)
    size = settled(pid, base + GROWTH)
    print(f"{'all':>4} {sent:>9} {found:>9}")
    print(f"memory {base / MEGABYTE:.0f} MB before, {size / MEGABYTE:.0f} MB after")
    return not found and size <= base + GROWTH


def run(url: str, document: Path, folder: Path, seed: int, examples: int) -> dict[str, Any]:
    """One run of schemathesis: its report."""
    report = folder / "report.json"
    command = [sys.executable, "-m", "schemathesis.cli", "run", str(document), "--url", url]
    command += ["--header", f"Authorization: Bearer {TOKEN}", "--seed", str(seed)]
    command += ["--max-examples", str(examples), "--max-response-time", str(SLOWEST_SECONDS)]
    command += ["--phases", "examples,coverage,fuzzing,stateful", "--exclude-checks", UNFIT]
    command += ["--continue-on-failure", "--no-shrink", "--suppress-health-check", "all"]
    command += ["--report", "json", "--report-json-path", str(report)]
    hooks = {"SCHEMATHESIS_HOOKS": "benchmarks.fuzz_hooks", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env=os.environ | hooks, capture_output=True, text=True, check=False
    )
    (folder / f"schemathesis-{seed}.log").write_text(done.stdout + done.stderr)
    if not report.exists():
        raise RuntimeError(f"schemathesis wrote no report:\n{done.stdout}{done.stderr}")
    found: dict[str, Any] = json.loads(report.read_text())
    report.unlink()
    if found["test_cases"]["unique_failures"] or found["errors"]:
        print(done.stdout[-6_000:])
    return found


def sharpened(document: dict[str, Any]) -> dict[str, Any]:
    """The document with names and rows that get past the door as often as not."""
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                values = {"model": MODEL, "version": "1"}.get(parameter["name"])
                if values is not None:
                    parameter["schema"] = {"anyOf": [{"enum": [values]}, parameter["schema"]]}
    row = {
        "type": "array",
        "minItems": len(ROW),
        "maxItems": len(ROW),
        "items": {"type": "number", "minimum": 0, "maximum": 16},
    }
    body = document["components"]["schemas"]["PredictBody"]["properties"]
    body["row"] = {"anyOf": [row, {}]}
    body["rows"]["items"] = {"anyOf": [row, {}]}
    return document


@contextmanager
def mlflow(state: Path) -> Iterator[str]:
    """A real MLflow server with nothing in it; its address."""
    port, folder = free_port(), state / "mlflow"
    folder.mkdir()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    command += ["--port", str(port), "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("ab") as log:
        server = subprocess.Popen(
            command, cwd=folder, env=os.environ | quiet, stdout=log, stderr=log
        )
        workers: list[psutil.Process] = []
        try:
            wait_for(f"http://127.0.0.1:{port}/health", "OK")
            workers = psutil.Process(server.pid).children(recursive=True)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(20)
            for worker in psutil.wait_procs(workers, timeout=10)[1]:
                worker.kill()


def wait_for(url: str, word: str) -> None:
    """Wait until an address says a word."""

    def says() -> bool:
        try:
            return word in httpx.get(url, timeout=5.0, trust_env=False).text
        except httpx.HTTPError:
            return False

    if not wait_until(says, START_SECONDS):
        raise RuntimeError(f"{url} did not say {word} in time.")


def settled(pid: int, goal: int) -> int:
    """The resident memory once it is at or below a goal, or at the end of the patience."""
    process = psutil.Process(pid)
    wait_until(lambda: process.memory_info().rss <= goal, REST_SECONDS)
    return int(process.memory_info().rss)


if __name__ == "__main__":
    sys.exit(main())
