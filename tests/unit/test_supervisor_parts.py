from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from homeostat.errors import StartError
from homeostat.settings import Settings
from homeostat.supervisor import Event, UpState, read_state, stop
from homeostat.supervisor.parts import Part, parts
from homeostat.supervisor.state import lock_state_dir, this_process, write_state
from homeostat.supervisor.supervise import last_lines


def made(tmp_path: Path, **given: object) -> dict[str, Part]:
    settings = Settings.model_validate({"state_dir": tmp_path, **given})
    return {part.name: part for part in parts(settings, {})}


def test_what_has_an_address_is_used_and_not_started(tmp_path: Path) -> None:
    made_parts = made(tmp_path, mlflow_url="http://m:1", prefect_url="http://p:2/api")
    assert [name for name, part in made_parts.items() if not part.ours] == ["prefect", "mlflow"]
    assert made_parts["mlflow"].address == "http://m:1"


def test_no_secret_is_on_a_command_line(tmp_path: Path) -> None:
    given = {"token": "geheim", "database_url": "postgresql://me:geheim@h/d"}
    assert not any("geheim" in " ".join(part.argv) for part in made(tmp_path, **given).values())


def test_the_gateway_gets_one_thread_and_waits_for_the_schema(tmp_path: Path) -> None:
    gateway = made(tmp_path)["gateway"]
    assert gateway.env["OMP_NUM_THREADS"] == "1"
    assert gateway.after == ("database",)


def test_a_server_that_is_not_there_is_not_ready(tmp_path: Path) -> None:
    state = this_process(tmp_path)
    assert state.is_alive()
    assert not UpState(pid=state.pid, born=state.born + 1, ready=True).is_alive()


def test_the_state_on_disk_is_what_was_written(tmp_path: Path) -> None:
    state = this_process(tmp_path)
    write_state(tmp_path, state)
    assert read_state(tmp_path) == state
    (tmp_path / "up.json").write_text("{")
    assert read_state(tmp_path) is None


def test_two_supervisors_cannot_share_a_state_folder(tmp_path: Path) -> None:
    with lock_state_dir(tmp_path):
        write_state(tmp_path, this_process(tmp_path))
        with pytest.raises(StartError, match=f"already up \\(process {os.getpid()}\\)"):
            lock_state_dir(tmp_path)


def test_stopping_what_does_not_run_forgets_it_and_harms_no_other_process(tmp_path: Path) -> None:
    stale = {"pid": os.getpid(), "born": 1.0, "ready": True}
    (tmp_path / "up.json").write_text(json.dumps(stale))
    assert not stop(tmp_path)
    assert not (tmp_path / "up.json").exists()


def test_events_pass_through_a_pipe_unchanged() -> None:
    event = Event("failed", "mlflow", "It ended.", "Look.", 1.5, "cannot-start", ("a", "b"))
    assert Event.from_json(event.to_json()) == event


def test_the_last_lines_of_a_log_skip_empty_ones(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("first\n\nsecond\nthird\n\n")
    assert last_lines(log, 2) == ["second", "third"]
    assert last_lines(tmp_path / "none.log", 2) == []
