from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from homeostat import errors
from homeostat.cli_reference import codes
from homeostat.client import Gateway, error_of
from homeostat.commands.exits import BY_ERROR, INPUT, REFUSED, SETTINGS, UNAVAILABLE, exit_code
from homeostat.commands.show import MASK, mask_alert, mask_password, mask_route, masked
from homeostat.errors import HomeostatError
from homeostat.settings import load_settings
from homeostat.supervisor import free_ports
from serving.problems import problem


def run(*words: str, folder: Path, given: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """`homeostat` in an empty folder, with a gateway's port that nobody listens on."""
    ports = free_ports(3)
    variables = {
        "HOMEOSTAT_GATEWAY_PORT": str(ports[0]),
        "HOMEOSTAT_MLFLOW_PORT": str(ports[1]),
        "HOMEOSTAT_PREFECT_PORT": str(ports[2]),
    }
    return subprocess.run(
        [sys.executable, "-P", "-m", "homeostat", *words],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder)} | variables | env,
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_every_error_has_an_exit_code() -> None:
    assert set(codes()) <= set(BY_ERROR)


def test_a_part_that_is_away_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    done = run("predict", "digits", "[[1]]", folder=tmp_path)
    assert done.returncode == UNAVAILABLE
    assert done.stderr.count("\n") == 1
    assert "homeostat up" in done.stderr


def test_training_without_prefect_says_what_to_start(tmp_path: Path) -> None:
    done = run("train", "digits", folder=tmp_path)
    assert done.returncode == UNAVAILABLE
    assert "homeostat up" in done.stderr


def test_a_missing_file_of_data_is_an_input_error(tmp_path: Path) -> None:
    done = run("train", "digits", "--data", "nowhere.csv", folder=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (INPUT, 1)
    assert "nowhere.csv" in done.stderr


def test_rows_that_are_not_json_are_an_input_error(tmp_path: Path) -> None:
    done = run("predict", "digits", "-", folder=tmp_path, given="[1, 2")
    assert (done.returncode, done.stderr.count("\n")) == (INPUT, 1)


def test_a_wrong_setting_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "homeostat.toml").write_text("gateway_prot = 1\n")
    done = run("status", folder=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (SETTINGS, 1)
    assert "gateway_port" in done.stderr


def test_a_taken_port_names_the_setting_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run("up", folder=tmp_path, HOMEOSTAT_MLFLOW_PORT=port)
    assert (done.returncode, done.stderr.count("\n")) == (SETTINGS, 1)
    assert "mlflow_port" in done.stderr
    assert port in done.stderr
    assert not (tmp_path / ".homeostat" / "mlflow.db").exists()


def test_settings_never_show_a_secret(tmp_path: Path) -> None:
    secrets = {
        "HOMEOSTAT_TOKEN": "geheim-1",
        "HOMEOSTAT_DATABASE_URL": "postgresql://me:geheim-2@db.example/x",
        "HOMEOSTAT_MODELS__DIGITS__ALERTS": '["slack://geheim-3/geheim-4"]',
    }
    for words in (["settings"], ["settings", "--json"]):
        done = run(*words, folder=tmp_path, **secrets)
        assert done.returncode == 0, done.stderr
        assert "geheim" not in done.stdout
        assert MASK in done.stdout


def test_masking_keeps_what_is_not_secret() -> None:
    assert mask_password("postgresql://me:pw@host/db") == f"postgresql://me:{MASK}@host/db"
    assert mask_password("sqlite:////tmp/a.db") == "sqlite:////tmp/a.db"
    assert mask_alert("https://hooks.example/T0/B0") == f"https://hooks.example/{MASK}"
    assert mask_alert("http://127.0.0.1:9000") == "http://127.0.0.1:9000"
    assert mask_alert("alertmanager+http://am:9093") == "alertmanager+http://am:9093"
    route = {"to": "pagerduty://key", "severity": "page"}
    assert mask_route(route) == route | {"to": f"pagerduty://{MASK}"}
    assert masked(load_settings().model_dump(mode="json"))["host"] == "127.0.0.1"


def test_a_problem_document_becomes_the_error_that_was_raised() -> None:
    raised = errors.StaleGeneration("Moved by ada.", remedy="Look.", winner="ada", generation=7)
    told = error_of(problem(raised))
    assert type(told) is errors.StaleGeneration
    assert (str(told), told.fields) == (str(raised), {"winner": "ada", "generation": 7})
    assert exit_code(told.code) == REFUSED


def test_an_answer_that_is_not_our_gateways_is_told_as_such() -> None:
    def foreign(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(404, text="<html>nginx</html>")

    with (
        Gateway("http://127.0.0.1:1", "t", transport=httpx.MockTransport(foreign)) as gateway,
        pytest.raises(errors.Unavailable, match="not as our gateway does"),
    ):
        gateway.model("digits")


def test_the_client_sends_the_token_and_who_acts() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"generation": 2})

    transport = httpx.MockTransport(answer)
    with Gateway("http://127.0.0.1:1", "t", actor="ada", transport=transport) as gateway:
        gateway.promote("digits", 2, "better", override=True, expires_hours=1.0)
    (request,) = seen
    assert request.headers["authorization"] == "Bearer t"
    assert request.content == (
        b'{"version":2,"reason":"better","override":true,"expires_hours":1.0,"actor":"ada"}'
    )


def test_an_unknown_code_is_still_an_error_of_ours() -> None:
    told = error_of({"code": "from-the-future", "detail": "Something new."})
    assert type(told) is HomeostatError
    assert told.message == "Something new."
