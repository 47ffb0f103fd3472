"""The page of on-call over HTTP: who gets in, what it shows, what it never does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient

from homeostat.clock import utc_now
from homeostat.policy import GatePolicy, Policy
from homeostat.settings import ADMIN_PORT
from monitoring.signals import Signal, triage
from registry import (
    GateFigure,
    Verdict,
    connect,
    quarantine,
    raise_signal,
    record_verdict,
    sessions,
    transaction,
)
from registry.tokens import create_token
from serving.app import create_app
from serving.gateway import Gateway

if TYPE_CHECKING:
    from tests.integration.conftest import Station

HERE = "http://127.0.0.1:8000"
HOSTILE = "<script>alert('x')</script>"


@contextmanager
def page_of(here: Station, address: str = HERE) -> Iterator[TestClient]:
    app = create_app(here.settings, Gateway(here.settings))
    with TestClient(app, base_url=address, follow_redirects=False) as client:
        yield client


def sign_in(client: TestClient, given: str = "") -> None:
    answer = client.post("/page/sign-in", data={"token": given or "the-token", "next": "/"})
    assert answer.status_code == 303, answer.text


def token_of(here: Station, name: str, *verbs: str, models: tuple[str, ...] = ()) -> str:
    with transaction(sessions(connect(here.settings.database))) as session:
        return create_token(session, name, verbs, models, actor="t", now=utc_now())[1]


def open_incident(here: Station, reason: str = "it says so") -> str:
    signal = Signal("registry", "test", 1.0, 1.0, 1, 1, {"reason": reason, "severity": "page"})
    with transaction(sessions(connect(here.settings.database))) as session:
        return raise_signal(
            session, "digits", 1, signal, triage(signal), utc_now(), "homeostat undo"
        ).id


def form_of(text: str) -> str:
    found = re.search(r'name="form" value="([0-9a-f]+)"', text)
    assert found
    return found[1]


@pytest.fixture
def here(station: Callable[..., Station]) -> Station:
    made = station()
    made.serve(1)
    return made


def test_who_is_not_signed_in_is_asked_to_and_comes_back(here: Station) -> None:
    with page_of(here) as client:
        asked = client.get("/?at=x")
        assert asked.status_code == 303
        assert asked.headers["location"] == "/page/sign-in?next=%2F%3Fat%3Dx"
        wrong = client.post("/page/sign-in", data={"token": "wrong", "next": "/"})
        assert wrong.status_code == 401
        assert "does not work here" in wrong.text
        assert not client.cookies
        right = client.post("/page/sign-in", data={"token": "the-token", "next": "/page/x"})
        assert (right.status_code, right.headers["location"]) == (303, "/page/x")
        cookie = right.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert "the-token" not in cookie
        assert client.get("/").status_code == 200


def test_the_fleet_says_what_serves_on_whose_word_and_what_is_open_first(here: Station) -> None:
    incident = open_incident(here, HOSTILE)
    with page_of(here) as client:
        sign_in(client)
        answer = client.get("/")
        text = answer.text
        assert "1 page open" in text
        assert f"/page/incidents/{incident}" in text
        assert text.index("Open incidents") < text.index("What serves")
        for said in ("version 1", "champion, 100", "by <strong>test</strong>", "the test says so"):
            assert said in text
        assert HOSTILE not in text
        assert "&lt;script&gt;" in text
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert not re.search(r"<script(?! src)|<style| style=| on[a-z]+=", text)


def test_other_holders_models_are_not_there(station: Callable[..., Station]) -> None:
    made = station()
    other = made.settings.policy("digits")
    made = station_with(made, {"digits": other, "letters": other})
    made.serve(1)
    incident = open_incident(made)
    token = token_of(made, "lee", "read", models=("letters",))
    with page_of(made) as client:
        sign_in(client, token)
        text = client.get("/").text
        assert "letters" in text
        assert "digits" not in text
        assert incident not in text


def station_with(made: Station, models: dict[str, object]) -> Station:
    return type(made)(made.settings.model_copy(update={"models": models}), made.digests)


def test_a_token_without_read_sees_nothing(here: Station) -> None:
    token = token_of(here, "shop", "predict")
    with page_of(here) as client:
        refused = client.post("/page/sign-in", data={"token": token})
        assert refused.status_code == 403
        assert not client.cookies


def test_signing_out_ends_the_session_and_needs_the_pages_own_form(here: Station) -> None:
    with page_of(here) as client:
        sign_in(client)
        form = form_of(client.get("/").text)
        assert client.post("/page/sign-out", data={"form": "0" * 64}).status_code == 403
        other = client.post(
            "/page/sign-out", data={"form": form}, headers={"origin": "http://evil.example"}
        )
        assert other.status_code == 403
        assert client.get("/").status_code == 200
        copied = client.cookies["homeostat-session"]
        assert client.post("/page/sign-out", data={"form": form}).status_code == 303
        assert client.get("/").status_code == 303
        client.cookies.set("homeostat-session", copied, domain="127.0.0.1")
        assert client.get("/").status_code == 303
    with page_of(here) as another:  # gateway of this database
        another.cookies.set("homeostat-session", copied, domain="127.0.0.1")
        assert another.get("/").status_code == 303


def test_the_page_is_at_the_port_of_the_routes_that_act_alone(
    station: Callable[..., Station],
) -> None:
    made = station(host="10.0.0.1")  # nothing listens: an address to be recognised
    made.serve(1)
    with page_of(made, "http://10.0.0.1:8000") as public:
        for path in ("/", "/page/sign-in", "/page/static/page.css"):
            assert public.get(path).status_code == 404
    with page_of(made, f"http://127.0.0.1:{ADMIN_PORT}") as acting:
        assert acting.get("/page/sign-in").status_code == 200


def test_a_link_from_elsewhere_keeps_its_session(here: Station) -> None:
    """A browser holds a strict cookie back there: a page of ours asks again, and then it comes."""
    with page_of(here) as client:
        answer = client.get("/?a=b", headers={"sec-fetch-site": "cross-site"})
        assert answer.status_code == 200
        assert 'content="0; url=/?a=b"' in answer.text


def test_an_incident_says_what_broke_what_comes_next_and_how_to_undo_it(here: Station) -> None:
    incident = open_incident(here, HOSTILE)
    with page_of(here) as client:
        sign_in(client)
        text = client.get(f"/page/incidents/{incident}").text
        for said in ("Somebody has to look", "homeostat undo", "Runbook: registry", "Acknowledge"):
            assert said in text
        assert HOSTILE not in text
        assert "How it came to answer" in text
        assert "<code>homeostat report digits</code>" in text
        assert "by <strong>test</strong>. the test says so" in text
        assert "/page/models/digits/versions/1" in text
        runbook = client.get("/page/runbooks/registry").text
        assert "<h2>Undo</h2>" in runbook
        assert client.get("/page/runbooks/nothing").status_code == 404
        assert client.get("/page/incidents/none").status_code == 422


def test_the_rows_behind_an_incident_are_looked_at_once_for_each_of_its_states(
    here: Station,
) -> None:
    incident = open_incident(here)
    with page_of(here) as client:
        sign_in(client)
        path = f"/page/incidents/{incident}"
        assert f'data-load="{path}/evidence"' in client.get(path).text
        found = client.get(f"{path}/evidence")
        assert found.status_code == 200
        assert "no test, a fact: it says so" in found.text
        again = client.get(path).text
        assert "data-load" not in again
        assert "no test, a fact" in again


def test_acknowledging_is_in_the_name_of_the_tokens_holder(here: Station) -> None:
    incident = open_incident(here)
    token = token_of(here, "lee", "read", "rollback")
    with page_of(here) as client:
        sign_in(client, token)
        path = f"/page/incidents/{incident}"
        form = form_of(client.get(path).text)
        assert client.post(f"{path}/acknowledge").status_code == 403
        done = client.post(f"{path}/acknowledge", data={"form": form})
        assert (done.status_code, done.headers["location"]) == (303, path)
        assert "Acknowledged by lee." in client.get(path).text


def test_a_promotion_is_confirmed_and_then_rolled_back_by_name(here: Station) -> None:
    token = token_of(here, "kim", "read", "admin")
    with page_of(here) as client:
        sign_in(client, token)
        asked = client.get("/page/models/digits/promote?version=2").text
        assert "No gate has judged it" in asked
        form = form_of(asked)
        fields = {"form": form, "version": "2", "generation": "1", "reason": HOSTILE}
        held = client.post("/page/models/digits/promote", data=fields)
        assert held.status_code == 409
        assert here.routing().champion == 1
        done = client.post("/page/models/digits/promote", data=fields | {"override": "yes"})
        assert done.status_code == 303, done.text
        routing = here.routing()
        assert (routing.champion, routing.actor, routing.reason) == (2, "kim", HOSTILE)
        fields = {"form": form, "generation": str(routing.generation), "reason": "it was better"}
        stale = client.post("/page/models/digits/rollback", data=fields | {"generation": "1"})
        assert stale.status_code == 409
        assert client.post("/page/models/digits/rollback", data=fields).status_code == 303
        routing = here.routing()
        assert (routing.champion, routing.actor) == (1, "kim")
        assert HOSTILE not in client.get("/").text


def test_who_may_only_read_is_offered_nothing_and_refused(here: Station) -> None:
    incident = open_incident(here)
    token = token_of(here, "eve", "read")
    with page_of(here) as client:
        sign_in(client, token)
        text = client.get(f"/page/incidents/{incident}").text
        form = form_of(text)
        for offered in ("acknowledge", "Promote", "Roll back"):
            assert offered not in text
        fields = {"form": form, "version": "2", "generation": "1", "reason": "because"}
        for path in (
            f"/page/incidents/{incident}/acknowledge",
            "/page/models/digits/promote",
            "/page/models/digits/rollback",
        ):
            assert client.post(path, data=fields).status_code == 403
        for path in ("/page/models/digits/promote?version=2", "/page/models/digits/rollback"):
            assert client.get(path).status_code == 403
        assert here.routing().generation == 1


def test_a_kept_report_is_shown_without_the_pages_rights(here: Station) -> None:
    name = "digits-20261126T030000"
    folder = here.settings.state_dir / "reports" / name
    folder.mkdir(parents=True)
    (folder / "drift.html").write_text("<script>1</script>")
    incident = open_incident(here)
    with page_of(here) as client:
        sign_in(client)
        path = f"/page/models/digits/reports/{name}/drift.html"
        assert path in client.get(f"/page/incidents/{incident}").text
        found = client.get(path)
        assert found.headers["content-security-policy"].startswith("sandbox allow-scripts")
        assert "allow-same-origin" not in found.headers["content-security-policy"]
        for wrong in (f"{name}/secret.txt", "digits-20261126T030000x/drift.html", "x/drift.html"):
            assert client.get(f"/page/models/digits/reports/{wrong}").status_code == 404


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
