from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from homeostat.errors import SettingsError, UnknownModel
from homeostat.settings import PREFIX, Settings, load_settings
from homeostat.supervisor.environment import (
    own_environment,
    server_environment,
    settings_environment,
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with nothing set."""
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_defaults_work_without_a_file() -> None:
    assert load_settings().policy("digits").learner == "digits"


def test_the_environment_goes_above_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "homeostat.toml").write_text("gateway_port = 9001\nmlflow_port = 9002\n")
    monkeypatch.setenv("HOMEOSTAT_GATEWAY_PORT", "9003")
    settings = load_settings()
    assert (settings.gateway_port, settings.mlflow_port) == (9003, 9002)


def test_a_variable_reaches_into_a_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMEOSTAT_MODELS__DIGITS__GATES__MIN_ACCURACY", "0.9")
    assert load_settings().policy("digits").gates.min_accuracy == 0.9


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("gateway_prot = 1", "gateway_port"),
        ("[models.digits]\nlerner = 'x'", "learner"),
        ("[models.digits.gates]\nmin_acuracy = 0.5", "min_accuracy"),
    ],
)
def test_a_wrong_key_names_the_nearest_right_one(folder: Path, text: str, near: str) -> None:
    (folder / "homeostat.toml").write_text(text)
    with pytest.raises(SettingsError, match=f"Did you mean '{near}'"):
        load_settings()


def test_a_wrong_variable_names_the_nearest_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMEOSTAT_GATEWAY_PROT", "1")
    with pytest.raises(SettingsError, match="Did you mean 'HOMEOSTAT_GATEWAY_PORT'"):
        load_settings()


def test_a_wrong_value_is_named(folder: Path) -> None:
    (folder / "homeostat.toml").write_text("gateway_port = 70000")
    with pytest.raises(SettingsError, match="'gateway_port' is 70000"):
        load_settings()


def test_a_file_that_is_not_toml_is_named(folder: Path) -> None:
    (folder / "homeostat.toml").write_text("gateway_port = ")
    with pytest.raises(SettingsError, match="not valid TOML"):
        load_settings()


def test_settings_do_not_change() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError):
        settings.__setattr__("host", "127.0.0.2")


def test_an_unknown_model_names_the_known() -> None:
    with pytest.raises(UnknownModel, match="known: digits"):
        load_settings().policy("nobody")


def test_the_token_is_made_once_and_only_the_owner_reads_it(folder: Path) -> None:
    settings = load_settings(state_dir=folder / "state")
    assert settings.known_token() == ""
    assert not (folder / "state").exists()
    assert settings.secret_token() == settings.secret_token() == settings.known_token() != ""
    assert stat.S_IMODE((folder / "state" / "token").stat().st_mode) == 0o600


def test_children_see_the_settings_that_the_parent_saw(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "homeostat.toml").write_text(
        "max_rows = 7\npoll_seconds = 0.25\n"
        "[models.cars]\nlearner = 'table'\nalerts = ['http://127.0.0.1:1/']\n"
    )
    parent = load_settings(state_dir=Path("state"), gateway_port=9001)
    for name, value in settings_environment(parent).items():
        monkeypatch.setenv(name, value)
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    child = load_settings()
    assert child.models == parent.models
    assert (child.max_rows, child.poll_seconds, child.gateway_port) == (7, 0.25, 9001)
    assert child.state_dir == (folder / "state").resolve()
    assert child.database == parent.model_copy(update={"state_dir": child.state_dir}).database
    assert child.mlflow_address == parent.mlflow_address


def test_foreign_servers_get_none_of_our_settings_and_no_secret() -> None:
    hidden = "a secret"
    settings = load_settings(token=hidden, database_url="postgresql://me:secret@host/db")
    base = {"PATH": "/bin", "HOMEOSTAT_TOKEN": hidden, "MLFLOW_TRACKING_PASSWORD": hidden}
    env = server_environment(settings, base)
    assert env["PATH"] == "/bin"
    assert "secret" not in "".join(env.values())


def test_what_was_set_for_a_given_server_reaches_our_clients_of_it() -> None:
    theirs = {"MLFLOW_TRACKING_PASSWORD": "of theirs"}
    base = theirs | {"PREFECT_API_KEY": "of another"}
    env = own_environment(load_settings(mlflow_url="http://mlflow.example:5000"), base)
    assert theirs.items() <= env.items()
    assert "PREFECT_API_KEY" not in env


@pytest.mark.parametrize("make", [server_environment, own_environment])
def test_telemetry_is_off_unless_asked_for(
    make: Callable[[Settings, Mapping[str, str]], dict[str, str]],
) -> None:
    names = {"DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "PREFECT_SERVER_ANALYTICS_ENABLED"}
    assert names <= set(make(load_settings(), {}))
    assert not names & set(make(load_settings(telemetry=True), {}))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('{ to = "slack://k3y", hour = "Mon" }', "Did you mean 'hours'?"),
        ('{ to = "slack://k3y", hours = "Mon 8-9" }', "'Mon 8-9' is not hours such as"),
        ('{ to = "slack://k3y", severity = "loud" }', "Input should be 'ticket' or 'page'"),
        ("7", "Input should be a valid"),
    ],
)
def test_what_is_wrong_with_an_address_of_alerts_is_said_without_its_key(
    folder: Path, table: str, said: str
) -> None:
    (folder / "homeostat.toml").write_text(f"[models.digits]\nalerts = [{table}]\n")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert said in str(caught.value)
    assert "k3y" not in str(caught.value)
