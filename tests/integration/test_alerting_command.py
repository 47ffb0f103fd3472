"""`homeostat alerts test`: each receiver's answer, and an exit code that a script can read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from homeostat.cli import app
from homeostat.demo.receiver import AlertReceiver
from homeostat.errors import SettingsError


def settings_with(folder: Path, alerts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "homeostat.toml"
    path.write_text(f"[models.digits]\nalerts = {alerts}\n[models.quiet]\n")
    monkeypatch.setenv("HOMEOSTAT_CONFIG", str(path))


def test_every_receiver_gets_the_beginning_and_the_end_of_one_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with AlertReceiver() as receiver:
        route = f'{{ to = "{receiver.address}?token=x", severity = "page", hours = "Sat" }}'
        settings_with(tmp_path, f'["{receiver.address}", {route}]', monkeypatch)
        done = CliRunner().invoke(app, ["alerts", "test"])
    assert done.exit_code == 0, done.output
    assert done.output.count("took it in") == 2
    assert [one.event["type"] for one in receiver.alerts] == [
        "homeostat.incident.open",
        "homeostat.incident.resolved",
    ] * 2
    assert "Runbook: docs/runbooks/README.md" in receiver.alerts[0].data["text"]


def test_one_that_does_not_take_it_is_named_and_fails_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with AlertReceiver() as receiver:
        nowhere = "http://127.0.0.1:9/hook/topsecret"
        settings_with(tmp_path, f'["{nowhere}", "{receiver.address}"]', monkeypatch)
        done = CliRunner().invoke(app, ["alerts", "test", "--model", "digits", "--json"])
    assert done.exit_code == 5
    away, there = json.loads(done.output)
    assert (away["taken"], there["taken"]) == (False, True)
    assert "ConnectError" in away["error"]
    assert "topsecret" not in done.output


def test_nobody_to_tell_is_a_fault_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings_with(tmp_path, '["http://127.0.0.1:9"]', monkeypatch)
    done = CliRunner().invoke(app, ["alerts", "test", "--model", "quiet"])
    assert isinstance(done.exception, SettingsError)
    assert "`alerts` of quiet is empty" in str(done.exception)
