"""The deployments, as Prefect starts them in processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from flows.pipeline import pipeline
from monitoring import Alert
from monitoring.delivery import deliver
from monitoring.outbound import Guard, Sending
from registry import Incident

if TYPE_CHECKING:
    from tests.integration.flows.conftest import Site


@pytest.mark.parametrize("site", [{"schedule": "0 3 * * *"}], indirect=True)
def test_served_flows_run_by_module_path_on_their_schedule_and_tell_typed_errors(
    site: Site, tmp_path: Path
) -> None:
    with site.served(tmp_path):
        site.wait_for(lambda: site.deployment("digest") is not None, "the deployments")
        found = site.deployment("pipeline")
        assert found is not None
        assert found["entrypoint"] == "flows.pipeline.pipeline"
        (schedule,) = found["schedules"]
        assert schedule["parameters"] == {"model": site.model}
        assert schedule["schedule"]["cron"] == "0 3 * * *"

        done = site.start("pipeline", {"model": site.model})
        wrong = site.start("rollback", {"model": "nobody", "reason": "none"})
        told = site.start("digest", {"model": site.model})
        site.wait_for(lambda: site.state(done) == "COMPLETED", "the pipeline")
        site.wait_for(lambda: site.state(wrong) == "FAILED", "the refusal")
        site.wait_for(lambda: site.state(told) == "COMPLETED", "the digest")

        incident = site.open_incident(datetime.now(UTC))
        deliver(f"prefect+{site.prefect}", told_of(incident), Sending(Guard(loopback=True)))
        wanted = {"model": site.model, "incident": incident.id}
        site.wait_for(
            lambda: any(run["parameters"].items() >= wanted.items() for run in site.runs("report")),
            "the report that Prefect's automation starts",
        )

        assert site.aliases() == {"champion": 1}
        assert "UnknownModel: There is no model 'nobody' here" in site.message(wrong)
        second = subprocess.run([sys.executable, "-m", "flows"], capture_output=True, text=True)
        assert "Another process serves the flows" in second.stderr


@pytest.mark.parametrize(
    "site",
    [{"retrain": {"cool_down_seconds": 0.0, "epochs": 1_000_000, "seconds": 120.0}}],
    indirect=True,
)
def test_a_killed_retrain_frees_its_lock_and_one_whose_runner_died_goes_on(
    site: Site, tmp_path: Path
) -> None:
    pipeline(site.model)
    site.log_digits(300, 0.7, datetime(2026, 11, 1, tzinfo=UTC))
    with site.served(tmp_path) as runner:
        site.wait_for(lambda: site.deployment("report") is not None, "the deployments")
        first = site.start("retrain", {"model": site.model, "key": "first"})
        site.wait_for(lambda: site.retrain_run() == first, "the first retrain")
        kill_all(site.flow_processes(runner))
        site.wait_for(lambda: site.state(first) == "CRASHED", "the crash")
        site.wait_for(lambda: site.retrain_run() == "", "the lock")

        second = site.start("retrain", {"model": site.model, "key": "second"})
        site.wait_for(lambda: site.retrain_run() == second, "the second retrain")
        kill_all([runner, *site.flow_processes(runner)])
    assert site.state(second) == "RUNNING"

    with site.served(tmp_path) as runner:
        site.wait_for(lambda: len(site.flow_processes(runner)) == 1, "the second retrain, again")
        site.wait_for(lambda: int(site.flow_run(second)["run_count"]) == 2, "its second start")
        assert site.retrain_run() == second


def told_of(incident: Incident) -> Alert:
    """The first alert of an incident."""
    details = {"incident": incident.id, "kind": incident.kind}
    return Alert(
        id=f"{incident.key}/open",
        key=incident.key,
        status="open",
        severity="page",
        title=incident.title,
        text="It fell.",
        model=incident.model,
        at=incident.opened_at,
        details=details,
    )


def kill_all(processes: list[psutil.Process]) -> None:
    for process in processes:
        process.send_signal(signal.SIGKILL)
    psutil.wait_procs(processes, timeout=10)
