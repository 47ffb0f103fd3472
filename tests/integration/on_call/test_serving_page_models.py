"""A model's page, its trials, versions and automation, over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from homeostat.clock import utc_now
from homeostat.policy import GatePolicy, Policy
from registry import (
    GateFigure,
    Verdict,
    connect,
    quarantine,
    record_verdict,
    sessions,
    transaction,
)
from tests.integration.on_call.asking import (
    HOSTILE,
    form_of,
    open_incident,
    page_of,
    sign_in,
    token_of,
)

if TYPE_CHECKING:
    from tests.integration.conftest import Station


AUTH = {"Authorization": "Bearer the-token"}
ROWS = {"rows": [[float((n + k) % 16) for k in range(64)] for n in range(40)]}


def test_a_models_page_tells_the_measured_from_the_estimated(here: Station) -> None:
    with page_of(here) as client:
        sign_in(client)
        before = client.get("/page/models/digits").text
        assert before.count("No label has come yet.") == 2
        said = client.post("/v1/models/digits/predict", json=ROWS, headers=AUTH).json()
        labels = [{"id": one["id"], "label": one["prediction"]} for one in said["predictions"]]
        taken = client.post("/v1/labels", json={"labels": labels}, headers=AUTH)
        assert taken.status_code == 200
        text = client.get("/page/models/digits").text
        assert "newest 40 labels" in text
        assert "measured by 40 labels" in text
        assert '<p class="big">100.0' in text
        assert "<em>estimated</em>" in text
        assert "inputs changed" in text
        assert "by <strong>test</strong>" in text
        assert client.get("/page/models/letters").status_code == 404


def test_a_moment_shows_what_served_then(here: Station) -> None:
    with page_of(here) as client:
        sign_in(client)
        now = client.get("/page/models/digits", params={"at": utc_now().isoformat()}).text
        assert "routing 1, since" in now
        early = client.get("/page/models/digits?at=2020-01-01T00:00:00").text
        assert "Nothing served" in early
        assert client.get("/page/models/digits?at=yesterday").status_code == 422


def test_the_timeline_comes_apart_or_with_the_page_and_the_versions_without_mlflow(
    here: Station,
) -> None:
    open_incident(here, HOSTILE)
    with page_of(here) as client:
        sign_in(client)
        part = client.get("/page/models/digits/timeline").text
        assert "v1 champion" in part
        assert "<html" not in part
        assert HOSTILE not in part
        whole = client.get("/page/models/digits?whole=1").text
        assert "v1 champion" in whole
        assert "data-load" not in whole
        assert "MLflow does not answer" in client.get("/page/models/digits/versions").text


def test_a_trial_is_paused_resumed_and_ended_by_name(here: Station) -> None:
    here.put_on_trial(2)
    token = token_of(here, "kim", "read", "rollback")
    with page_of(here) as client:
        sign_in(client, token)
        place = "/page/models/digits/rollout"
        asked = client.get(f"{place}/pause").text
        assert "Pause the trial of version 2 of digits?" in asked
        fields = {"form": form_of(asked), "version": "2", "reason": "let me look"}
        for action, said in (("pause", "stands still, by kim: let me look"), ("resume", "unseen")):
            generation = str(here.routing().generation)
            done = client.post(f"{place}/{action}", data=fields | {"generation": generation})
            assert done.status_code == 303, done.text
            assert said in client.get("/page/models/digits").text
        assert client.post(f"{place}/skip", data=fields).status_code == 403
        assert client.get(f"{place}/nothing").status_code == 404
        generation = str(here.routing().generation)
        done = client.post(f"{place}/abort", data=fields | {"generation": generation})
        assert done.status_code == 303, done.text
        assert (here.routing().challenger, here.routing().actor) == (None, "kim")


def test_a_verdict_is_shown_and_what_was_not_seen_is_not_approved(
    station: Callable[..., Station],
) -> None:
    here = station(Policy(gates=GatePolicy(approvals=2)))
    here.serve(1)
    figure = GateFigure("accuracy", 0.91, 0.8, True, HOSTILE)
    verdict = Verdict(True, (figure,), here.digests[2])
    with transaction(sessions(connect(here.settings.database))) as session:
        record_verdict(session, "digits", 2, verdict, utc_now())
    token = token_of(here, "kim", "read", "promote")
    with page_of(here) as client:
        sign_in(client, token)
        path = "/page/models/digits/versions/2"
        text = client.get(path).text
        assert "Every gate passed" in text
        assert "0 of 2 that the policy wants" in text
        assert HOSTILE not in text
        form = {"form": form_of(text), "reason": "read its card"}
        assert client.post(f"{path}/approve", data={"reason": "x"}).status_code == 403
        # MLflow is away, and it alone knows what the version is now: nothing is approved.
        assert client.post(f"{path}/approve", data=form | {"seen": "0" * 16}).status_code == 503
        assert "No gate has judged it" in client.get("/page/models/digits/versions/3").text
        assert client.get("/page/models/digits/versions/x").status_code == 400


def test_automation_is_paused_and_resumed_behind_a_confirmation(here: Station) -> None:
    with page_of(here) as client:
        sign_in(client)
        path = "/page/models/digits/automation"
        asked = client.get(f"{path}/pause").text
        assert "Pause all automation of digits?" in asked
        assert "homeostat automation pause digits --hours 8" in asked
        wish = {"form": form_of(asked), "reason": HOSTILE, "hours": "8"}
        assert client.post(f"{path}/pause", data=wish | {"hours": "9"}).status_code == 400
        assert client.post(f"{path}/pause", data=wish).status_code == 303
        for shown in ("/page/models/digits", "/"):
            text = client.get(shown).text
            assert "paused" in text
            assert HOSTILE not in text
        assert "Resume automation" in client.get("/page/models/digits").text
        assert client.post(f"{path}/resume", data=wish).status_code == 303
        assert "Pause automation" in client.get("/page/models/digits").text
        assert client.get(f"{path}/stop").status_code == 404


def test_a_version_is_let_out_of_quarantine_behind_a_confirmation(here: Station) -> None:
    with transaction(sessions(connect(here.settings.database))) as session:
        digest = here.digests[1]
        quarantine(session, "digits", digest, "it was bad", utc_now(), actor="t", version=1)
    with page_of(here) as client:
        sign_in(client)
        path = "/page/models/digits/versions/1"
        assert f'href="{path}/release"' in client.get(path).text
        asked = client.get(f"{path}/release").text
        assert "it was bad" in asked
        wish = {"form": form_of(asked), "reason": "it is good"}
        assert client.post(f"{path}/release", data=wish).status_code == 303
        assert "quarantine" not in client.get(path).text
        assert client.get(f"{path}/release").status_code == 409
