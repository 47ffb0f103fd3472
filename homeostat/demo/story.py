"""`homeostat demo`: the whole loop on real handwriting, told as it happens."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from homeostat.demo import acts
from homeostat.demo.images import held_out
from homeostat.demo.memory import PeakMemory
from homeostat.demo.receiver import AlertReceiver
from homeostat.demo.stage import MODEL, Stage, prepare


def run(state_dir: Path = Path(".homeostat-demo"), *, keep: bool = False) -> None:
    """Run all acts and print the table of figures and the report's path.

    Args:
        state_dir: Emptied at the start; holds everything that the demo makes.
        keep: Leave the servers running at the end, to look around.

    Raises:
        ActFailed: what an act must show was not seen; the message says which act.
        StartError: a part could not be started here.
    """
    console = Console()
    began = time.monotonic()
    folder = state_dir.resolve()
    with _orderly_end(), AlertReceiver() as receiver, PeakMemory(folder) as memory:
        settings = prepare(folder, receiver.address)
        policy = settings.policy(MODEL)
        held = held_out(policy.retrain.holdout, policy.seed)
        stage = Stage(settings, console, receiver, held)
        console.print("[bold]Homeostat[/bold]: a model goes wrong, and the loop puts it right.")
        try:
            with stage.progress("starting MLflow, Prefect and the gateway", 1) as tick:
                stage.act = "Start"
                stage.command("up", "--detach")
                tick(1)
            stage.say(f"ready after {time.monotonic() - began:.0f} s")
            acts.train(stage)
            acts.serve(stage)
            acts.adapt(stage)
            acts.roll_back(stage)
            page = acts.report(stage)
        finally:
            if not keep:
                stage.act = "End"
                stage.command("down")
    stage.figure("seconds of the whole demo", f"{time.monotonic() - began:.0f}")
    stage.figure("peak memory of all its processes, MB", f"{memory.peak / 1e6:.0f}")
    _table(stage)
    shown = page.relative_to(Path.cwd()) if page.is_relative_to(Path.cwd()) else page
    console.print(f"report  {shown}", soft_wrap=True)
    console.print(f"picture {shown.with_suffix('.png')}", soft_wrap=True)
    if keep:
        console.print(f"still running: {settings.gateway_address}, {settings.mlflow_address}")
        console.print(
            f"stop it with: HOMEOSTAT_CONFIG={folder}/homeostat.toml homeostat down", soft_wrap=True
        )


@contextmanager
def _orderly_end() -> Iterator[None]:
    """Stop the servers on the way out when somebody ends the demo, as Ctrl-C does by itself."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _table(stage: Stage) -> None:
    table = Table(title="What was measured, from outside", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in stage.figures:
        table.add_row(name, value)
    stage.console.print()
    stage.console.print(table)
