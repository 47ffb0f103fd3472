"""Facts of MLflow's registry that we build on or guard against, of the installed server.

A test here that fails says that an upgrade of MLflow changed one: read what of ours leans on it
before its bound is moved. The numbers L1 to L12 are those of docs/registry.md; L3, L5 to L8 and
L11 are about webhooks and live beside this file.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import mlflow
import pytest
from click.testing import CliRunner
from mlflow.cli import gc
from mlflow.exceptions import MlflowException

if TYPE_CHECKING:
    from tests.integration.page.conftest import Page, Runner


def test_l1_the_same_work_logged_again_is_another_version(page: Page) -> None:
    page.versions(3)
    found = page.client.search_model_versions(f"name = '{page.model}'")
    assert sorted(int(one.version) for one in found) == [1, 2, 3]
    assert len({one.source for one in found}) == 1


def test_l2_moving_an_alias_changes_no_timestamp(page: Page) -> None:
    page.versions(2)

    def stamps() -> list[int]:
        model = page.client.get_registered_model(page.model)
        versions = [page.client.get_model_version(page.model, one) for one in ("1", "2")]
        return [model.last_updated_timestamp, *(one.last_updated_timestamp for one in versions)]

    before = stamps()
    page.set(1)
    page.set(2)
    assert page.aliases() == {"champion": 2}
    assert stamps() == before


def test_l4_a_live_versions_files_can_be_collected_while_the_registry_says_ready(
    page: Page, mlflow_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", page.url)
    mlflow.set_tracking_uri(page.url)
    try:
        info = mlflow.pyfunc.log_model(
            name="net",
            python_model=lambda model_input: model_input,
            pip_requirements=[],
            registered_model_name=page.model,
        )
        page.set(1)
        page.client.delete_logged_model(info.model_id)
        options = ["--backend-store-uri", f"sqlite:///{mlflow_folder / 'mlflow.db'}"]
        options += ["--logged-model-ids", info.model_id, "--tracking-uri", page.url]
        done = CliRunner().invoke(gc, options)
        assert done.exit_code == 0, done.output
        assert page.client.get_model_version(page.model, "1").status == "READY"
        assert page.aliases() == {"champion": 1}
        with pytest.raises(MlflowException):
            mlflow.pyfunc.load_model(f"models:/{page.model}@champion")
    finally:
        mlflow.set_tracking_uri("")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_l5b_a_receiver_on_the_loopback_is_refused_by_default(page: Page, scheme: str) -> None:
    with pytest.raises(MlflowException, match=r"scheme|public"):
        page.client.create_webhook(
            "loopback", f"{scheme}://127.0.0.1:9/hook", ["model_version_alias.created"]
        )


@pytest.mark.parametrize("attempt", range(3))
def test_l9_of_three_that_set_one_alias_the_last_wins_and_none_is_told(
    page: Page, attempt: int
) -> None:
    page.versions(3)
    answers: list[httpx.Response] = []

    def move(version: int) -> None:
        body = {"name": page.model, "alias": "champion", "version": str(version)}
        answers.append(page.call("POST", "registered-models/alias", **body))

    page.set(1)
    movers = [threading.Thread(target=move, args=(version,)) for version in (1, 2, 3)]
    for mover in movers:
        mover.start()
    for mover in movers:
        mover.join()
    assert [answer.status_code for answer in answers] == [200, 200, 200], attempt
    assert page.aliases()["champion"] in (1, 2, 3)


def test_l9_several_that_create_one_alias_on_postgresql_get_the_databases_own_error(
    empty_postgres: str, run_mlflow: Runner, page_of: Callable[[str], Page], tmp_path: Path
) -> None:
    with run_mlflow(tmp_path, empty_postgres) as url:
        page = page_of(url)
        page.versions(1)
        told: list[httpx.Response] = []

        def create(alias: str, together: threading.Barrier) -> None:
            body = {"name": page.model, "alias": alias, "version": "1"}
            together.wait(10)
            told.append(page.call("POST", "registered-models/alias", **body))

        def meet(turn: int) -> bool:  # whether any of six met another's row
            together = threading.Barrier(6)
            makers = [
                threading.Thread(target=create, args=(f"a{turn}", together)) for _ in range(6)
            ]
            for maker in makers:
                maker.start()
            for maker in makers:
                maker.join()
            return any("UniqueViolation" in answer.text for answer in told)

        assert any(meet(turn) for turn in range(40))
        assert {answer.status_code for answer in told} == {200, 400}
        assert {int(version) for version in page.aliases().values()} == {1}


def test_l10_alias_names_are_told_apart_by_case_and_two_kinds_are_reserved(page: Page) -> None:
    page.versions(2)
    page.set(1, "champion")
    page.set(2, "Champion")
    page.set(1, "modèle")
    page.set(1, "a" * 255)
    assert {"champion": 1, "Champion": 2, "modèle": 1}.items() <= page.aliases().items()
    for reserved in ("latest", "v1", "V12"):
        with pytest.raises(MlflowException, match="reserved"):
            page.set(1, reserved)


def test_l12_a_stale_tab_takes_away_the_alias_of_another_version(page: Page) -> None:
    page.versions(2)
    page.set(1)
    page.set(2)  # by somebody else; the first tab still shows it on version 1
    gone = {"name": page.model, "alias": "champion", "version": "1"}
    assert page.call("DELETE", "registered-models/alias", **gone).status_code == 200
    assert page.aliases() == {}
