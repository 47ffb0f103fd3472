from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from pathlib import Path

import pytest

from homeostat.clock import utc_now
from homeostat.errors import StartError
from homeostat.settings import Settings
from homeostat.supervisor import Event, UpState, read_state, stop
from homeostat.supervisor.parts import Part, parts, ports
from homeostat.supervisor.schema import is_current
from homeostat.supervisor.state import lock_state_dir, this_process, write_state
from homeostat.supervisor.supervise import last_lines
from registry.database import upgrade


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


def test_several_gateways_share_a_port_and_have_one_each(tmp_path: Path) -> None:
    made_parts = made(tmp_path, gateway_replicas=3, gateway_port=9000)
    gateways = [part for name, part in made_parts.items() if name.startswith("gateway")]
    assert [part.name for part in gateways] == ["gateway-1", "gateway-2", "gateway-3"]
    assert [part.address for part in gateways] == [f"http://127.0.0.1:900{n}" for n in (1, 2, 3)]
    assert [part.argv[-2:] for part in gateways] == [("--replica", str(n)) for n in (1, 2, 3)]
    settings = Settings(state_dir=tmp_path, gateway_replicas=3, gateway_port=9000)
    assert {9000, 9001, 9002, 9003} <= set(ports(settings))
    with pytest.raises(StartError, match=r"gateway-2 and mlflow would both listen on port 5000"):
        ports(settings.model_copy(update={"gateway_port": 4998}))


def test_a_schema_that_is_current_costs_no_migration(tmp_path: Path) -> None:
    migrations = tmp_path / "versions"
    migrations.mkdir()
    (migrations / "0001_first.py").write_text('revision = "0001"\ndown_revision = None\n')
    (migrations / "0002_second.py").write_text(
        "revision: str = '0002'\ndown_revision: str | None = '0001'\n"
    )
    database = tmp_path / "some folder" / "lifecycle.db"
    database.parent.mkdir()
    url = f"sqlite:///{database}"
    assert not is_current(url, migrations)
    with contextlib.closing(sqlite3.connect(database)) as connection:
        assert not is_current(url, migrations)
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('0001')")
        connection.commit()
        assert not is_current(url, migrations)
        connection.execute("UPDATE alembic_version SET version_num = '0002'")
        connection.commit()
        assert is_current(url, migrations)
    database.write_bytes(b"not a database, and long enough to tell" * 99)
    assert not is_current(url, migrations)
    assert not is_current("postgresql://h/d", migrations)


def test_a_database_that_was_just_migrated_is_not_migrated_at_the_next_start(
    tmp_path: Path,
) -> None:
    assert made(tmp_path)["database"].ours
    upgrade(f"sqlite:///{tmp_path / 'lifecycle.db'}")
    database = made(tmp_path)["database"]
    assert not database.ours
    assert database.ready(utc_now())


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
