"""The page of on-call with a million predictions in the log: how soon each part of it is there.

    python -m benchmarks.page [--predictions 1000000] [--labels 100000] [--days 7]
        [--releases 40] [--asked 20]

A state folder is filled in a folder of its own (about 1 GB; removed at the end): a week of one
model's predictions in blocks, labels of a tenth, forty releases of two versions, the evidence of
three detectors each minute, ten incidents. A gateway serves it, and each page and part is asked for
over HTTP, `asked` times. Where the machine has a Chromium, each page is opened in as many new
sessions of it with nothing cached, and the browser's own first contentful paint is printed.
"""

from __future__ import annotations

import argparse
import itertools
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import httpx
from playwright.sync_api import sync_playwright

from benchmarks.gateway import MODEL, START_SECONDS, TOKEN, prepare, running
from benchmarks.page_rows import fill
from benchmarks.ports import free_port
from benchmarks.servers import answers, wait_until
from homeostat.clock import utc_now

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
PAINT = """() => new Promise(told => new PerformanceObserver((seen) => {
    const found = seen.getEntriesByName('first-contentful-paint')[0];
    if (found) told(found.startTime);
}).observe({type: 'paint', buffered: true}))"""


def main() -> None:
    """Fill, ask, print, clean up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--predictions", type=int, default=1_000_000)
    parser.add_argument("--labels", type=int, default=100_000)
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--releases", type=int, default=40)
    parser.add_argument("--asked", type=int, default=20)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="homeostat-page-"))
    try:
        began, now = time.perf_counter(), utc_now()
        start = now - timedelta(days=given.days)
        url = prepare(folder, versions=2, at=start)
        fill(url, start, now, given.predictions, given.labels, given.releases)
        size, took = (folder / "lifecycle.db").stat().st_size / 1e9, time.perf_counter() - began
        print(
            f"{given.predictions:,} predictions, {given.labels:,} labels, {given.releases} "
            f"releases in {given.days} days: {size:.1f} GB in {took:.0f} s\n",
            flush=True,
        )
        port = free_port()
        with running(folder, port):
            address = f"http://127.0.0.1:{port}"
            if not wait_until(lambda: answers(f"{address}/health/ready"), START_SECONDS):
                raise SystemExit("The gateway did not start.")
            incident = ask(address, given.asked)
            paint(address, incident, given.asked)
    finally:
        shutil.rmtree(folder)


def ask(address: str, asked: int) -> str:
    """Each page and part over HTTP; the id of an incident."""
    print(f"{'asked over HTTP':<44} {'median':>9} {'worst':>9}")
    with httpx.Client(
        base_url=address, follow_redirects=True, trust_env=False, timeout=60
    ) as client:
        client.post("/page/sign-in", data={"token": TOKEN, "next": "/"}).raise_for_status()
        found = re.search(r"/page/incidents/([0-9a-f-]+)", client.get("/").text)
        assert found
        model = f"/page/models/{MODEL}"
        later = [(f"{model}/timeline?hours=", hours) for hours in (1, 24, 168)]
        moment = (utc_now() - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S")
        then = f"{model}?at={moment}"
        for path in ("/", model, then, f"/page/incidents/{found[1]}"):
            show(path.replace(found[1], "ID"), times(asked, partial(get, client, path)))
        for path, hours in later:  # each an hour longer: one that was just asked for is kept
            longer = itertools.count(hours)
            measure = partial(get_longer, client, path, longer)
            show(f"{path}{hours} and more", times(asked, measure))
    return found[1]


def get(client: httpx.Client, path: str) -> float:
    """Milliseconds until a page is here, whole."""
    began = time.perf_counter()
    client.get(path).raise_for_status()
    return (time.perf_counter() - began) * 1000


def get_longer(client: httpx.Client, path: str, hours: Iterator[int]) -> float:
    """The same of a timeline that nobody asked for yet."""
    return get(client, f"{path}{next(hours)}")


def paint(address: str, incident: str, asked: int) -> None:
    """The first contentful paint of each page, in sessions of a browser with nothing cached."""
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if chromium is None:
        print("\nno Chromium on this machine: no paint was measured")
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        print(f"\n{'first contentful paint, ' + browser.version:<44} {'median':>9} {'worst':>9}")

        def painted(path: str) -> float:
            with browser.new_context(viewport={"width": 1280, "height": 800}) as context:
                form: dict[str, str | float | bool] = {"token": TOKEN, "next": "/"}
                context.request.post(f"{address}/page/sign-in", form=form, max_redirects=0)
                page = context.new_page()
                page.goto(f"{address}{path}", wait_until="commit")
                return float(page.evaluate(PAINT))

        for path in ("/", f"/page/models/{MODEL}", f"/page/incidents/{incident}"):
            show(path.replace(incident, "ID"), times(asked, partial(painted, path)))
        browser.close()


def times(asked: int, measure: Callable[[], float]) -> list[float]:
    """So many times, after one that counts not."""
    measure()
    return [measure() for _ in range(asked)]


def show(name: str, milliseconds: Iterable[float]) -> None:
    """A line of the table."""
    seen = list(milliseconds)
    print(f"{name:<44} {statistics.median(seen):6.1f} ms {max(seen):6.1f} ms", flush=True)


if __name__ == "__main__":
    main()
