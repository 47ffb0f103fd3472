"""What the demo's acts share: the running product seen from outside, and their checks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from homeostat.demo.images import Images
from homeostat.demo.receiver import AlertReceiver
from homeostat.demo.traffic import Callers, Record
from homeostat.errors import HomeostatError
from homeostat.settings import PREFIX, Settings, load_settings
from homeostat.supervisor import free_ports

MODEL = "digits"
POLICY = """\
# Written by `homeostat demo`: the defaults, but for what a demo cannot wait for.
state_dir = "{folder}"
gateway_port = {gateway}
mlflow_port = {mlflow}
prefect_port = {prefect}

[models.digits]
learner = "digits"
data = "builtin:digits"
alerts = ["{alerts}"]

[models.digits.retrain]
min_labels = 400
holdout = 0.4
cool_down_seconds = 1.0

[models.digits.rollout]
canary_predictions = 100
"""


class ActFailed(HomeostatError):
    """An act of the demo did not show what it must; `act` says which."""

    code = "act-failed"


@dataclass
class Stage:
    """The running product, its callers and its on-call tool.

    Args:
        settings: Those that the product runs with; the addresses are read from them.
        console: Where the story goes.
        receiver: The on-call tool.
        held: Images that the first version never trained on.
        figures: The table at the end, in order: what, and its value.
    """

    settings: Settings
    console: Console
    receiver: AlertReceiver
    held: Images
    figures: list[tuple[str, str]] = field(default_factory=list)
    act: str = ""
    requests: int = 0
    failures: int = 0

    @property
    def callers(self) -> Callers:
        """Clients of the gateway."""
        return Callers(self.settings.gateway_address, self.settings.secret_token(), MODEL)

    def begin(self, act: str, why: str) -> None:
        """Announce an act."""
        self.act = act
        self.console.print()
        self.console.rule(f"[bold]{act}", align="left")
        self.console.print(why, style="dim")

    def say(self, text: str) -> None:
        """One plain sentence of the story."""
        self.console.print(f"  {text}")

    def check(self, holds: bool, text: str) -> None:
        """State what was seen from outside.

        Raises:
            ActFailed: it does not hold.
        """
        if not holds:
            raise ActFailed(
                f"{self.act}: it does not hold that {text}.",
                remedy=f"The logs are in {self.settings.state_dir / 'logs'}.",
                act=self.act,
            )
        self.console.print(f"  [green]✓[/green] {text}")

    def figure(self, name: str, value: str) -> None:
        """A row of the table at the end."""
        self.figures.append((name, value))

    def check_answered(self, record: Record) -> None:
        """State that no request failed.

        Raises:
            ActFailed: one did; the message quotes the first.
        """
        self.requests += len(record.answers) + len(record.failures)
        self.failures += len(record.failures)
        if record.failures:
            self.say(f"{len(record.failures)} requests failed, the first: {record.failures[0]}")
        self.check(not record.failures, f"{len(record.answers)} images answered, 0 failed")

    def wait(self, holds: Callable[[], bool], text: str, seconds: float = 60.0) -> None:
        """Wait until something is seen from outside, then state it.

        Raises:
            ActFailed: it was not seen in time.
        """
        deadline = time.monotonic() + seconds
        while not (seen := holds()) and time.monotonic() < deadline:
            time.sleep(0.2)
        self.check(seen, text)

    def stream(
        self,
        title: str,
        images: Images,
        record: Record,
        *,
        most: int,
        seed: int,
        until: Callable[[], bool] = lambda: False,
    ) -> int:
        """Send images with a progress bar; answers how many were sent."""
        import numpy as np

        draws = images.draws(np.random.default_rng(seed))
        with self.progress(title, most) as tick:
            return self.callers.stream(draws, record, most=most, until=until, tick=tick)

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Callable[[int], object]]:
        """A progress bar; what it gives is called with each advance."""
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console) as bar:
            task = bar.add_task(title, total=total)
            yield lambda step: bar.advance(task, step)

    def mlflow(self, path: str, /, **query: Any) -> dict[str, Any]:  # noqa: ANN401 - query values
        """GET of MLflow's own REST API."""
        reply = httpx.get(
            f"{self.settings.mlflow_address}/api/2.0/mlflow/{path}", params=query, timeout=10.0
        )
        body: dict[str, Any] = reply.json() if reply.status_code == 200 else {}
        return body

    def champion(self) -> int:
        """The version that MLflow's alias `champion` names; 0: none."""
        model = self.mlflow("registered-models/get", name=MODEL).get("registered_model", {})
        aliases = {a["alias"]: int(a["version"]) for a in model.get("aliases", [])}
        return aliases.get("champion", 0)

    def command(self, *arguments: str, seconds: float = 180.0) -> str:
        """Run a `homeostat` command as a user would; answers what it printed.

        Raises:
            ActFailed: it did not end with exit code 0.
        """
        done = subprocess.run(
            [sys.executable, "-m", "homeostat.cli", *arguments],
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise ActFailed(
                f"{self.act}: `homeostat {' '.join(arguments)}` ended with exit code "
                f"{done.returncode}: {said[-1] if said else 'it said nothing'}",
                remedy=f"The logs are in {self.settings.state_dir / 'logs'}.",
                act=self.act,
            )
        return done.stdout


def prepare(folder: Path, alerts: str) -> Settings:
    """An empty state folder with the demo's own settings, on free ports.

    This process's environment is set to them, so that every command it runs sees the same.
    """
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    gateway, mlflow, prefect = free_ports(3)
    config = folder / "homeostat.toml"
    config.write_text(
        POLICY.format(folder=folder, gateway=gateway, mlflow=mlflow, prefect=prefect, alerts=alerts)
    )
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[name]  # the demo is the same for everybody
    os.environ[f"{PREFIX}CONFIG"] = str(config)
    return load_settings()
