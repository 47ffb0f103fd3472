"""The page of on-call over HTTP: who gets in, what it shows, what it never does."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

from homeostat.clock import utc_now
from homeostat.settings import ADMIN_PORT
from registry import note, resolve, transaction
from serving.gateway import Gateway
from serving.page.live import Pulse
from tests.integration.on_call.asking import (
    HOSTILE,
    form_of,
    open_incident,
    page_of,
    sign_in,
    token_of,
)
from tests.integration.prefect_stub import Stub, serving

if TYPE_CHECKING:
    from tests.integration.conftest import Station


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
        assert f"<code>homeostat report digits --incident {incident}</code>" in text
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


def test_a_report_of_an_incident_is_asked_of_prefect_once_and_told(here: Station) -> None:
    incident = open_incident(here)
    reader = token_of(here, "lea", "read")
    token = token_of(here, "lee", "read", "rollback")
    stub = Stub()
    asking = here.settings.model_copy(update={"prefect_url": f"{stub.url}/api"})
    with serving(stub), page_of(replace(here, settings=asking)) as client:
        path = f"/page/incidents/{incident}"
        sign_in(client, reader)
        shown = client.get(path).text
        assert "Have a report made" not in shown
        refused = client.post(f"{path}/report", data={"form": form_of(shown)})
        assert (refused.status_code, stub.runs) == (403, [])
        sign_in(client, token)
        fields = {"form": form_of(client.get(path).text)}
        away = client.post(f"{path}/report", data=fields)
        assert away.status_code == 503
        assert "Prefect does not answer" in away.text
        stub.prefect_away = False
        done = client.post(f"{path}/report", data=fields)
        assert (done.status_code, done.headers["location"]) == (303, path)
        (run,) = stub.runs
        assert run["parameters"] == {"model": "digits", "incident": incident, "presets": ["drift"]}
        assert stub.deployments == ["report/report"]
        assert "lee asked for Evidently" in client.get(path).text


def test_an_open_page_hears_of_a_resolved_incidents_news(here: Station) -> None:
    incident = open_incident(here)
    gateway = Gateway(here.settings)
    ticks = count()
    pulse = Pulse(gateway, lambda: float(next(ticks)))
    seen = [pulse.of(["digits"])]
    with transaction(gateway.parts.maker) as session:
        resolve(session, incident, "It is over.", utc_now())
    seen.append(pulse.of(["digits"]))
    with transaction(gateway.parts.maker) as session:
        note(session, incident, "Somebody looked.", utc_now())
    seen += [pulse.of(["digits"]), pulse.of(["digits"])]
    gateway.stop()
    assert len(set(seen)) == 3
    assert seen[2] == seen[3]


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
