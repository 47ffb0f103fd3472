"""The controller against a real MLflow server: what a person does on its page, and what follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.integration.page.conftest import Person


def test_the_first_champion_is_served_and_told_so(person: Person) -> None:
    version = person.first_champion()
    assert person.predict()["version"] == version
    assert person.tags(version)["lifecycle.generation"] == "1"
    (line,) = person.client.get(f"/v1/models/{person.model}/history").json()["routings"]
    assert line["actor"] == "unknown (MLflow)"


def test_an_alias_moved_to_a_passing_version_moves_the_traffic(person: Person) -> None:
    first = person.first_champion()
    second = person.register("better", passed=True)
    person.alias("champion", second)
    person.wait_for(lambda: person.predict()["version"] == second)
    person.wait_for(lambda: person.aliases() == {"champion": second, "standby": first})
    person.wait_for(lambda: person.state(second) == "serving" and person.state(first) == "standby")


def test_an_alias_moved_past_the_gates_is_put_back_once_then_held(person: Person) -> None:
    first = person.first_champion()
    bad = person.register("bad", passed=False)
    person.alias("champion", bad)
    person.wait_for(lambda: person.aliases()["champion"] == first)
    person.wait_for(lambda: person.state(bad) == "rejected")
    person.wait_for(lambda: [one["state"] for one in person.incidents()] == ["mitigated"])
    person.alias("champion", bad)
    person.wait_for(lambda: any(one["severity"] == "page" for one in person.incidents()))
    assert person.aliases()["champion"] == bad
    assert person.predict()["version"] == first


def test_an_override_lets_a_bad_version_in_and_labels_throw_it_out(person: Person) -> None:
    first = person.first_champion()
    bad = person.register("bad", passed=False)
    wish = {"version": bad, "reason": "I know better", "expires_hours": 1}
    answer = person.client.post(f"/v1/models/{person.model}/overrides", json=wish)
    assert answer.status_code == 200, answer.text
    person.alias("champion", bad)
    person.wait_for(lambda: person.predict()["version"] == bad)
    person.wait_for(lambda: person.state(bad) == "serving")
    for _ in range(10):
        person.stream(10)
        if person.predict()["version"] == first:
            break
    assert person.predict()["version"] == first
    person.wait_for(lambda: person.aliases()["champion"] == first)
    person.wait_for(lambda: person.state(bad) == "rolled_back")
    assert "standby" not in person.aliases()
    kinds = {one["kind"]: one for one in person.incidents()}
    told = kinds.get("worse-than-standby") or kinds["registry"]
    assert told["state"] == "mitigated"
    assert "--override" in told["undo"]
    person.alias("champion", bad)  # quarantined now: no override lifts that through an alias
    person.wait_for(lambda: person.aliases()["champion"] == first)
    person.wait_for(lambda: person.state(bad) == "quarantined")
    assert person.predict()["version"] == first


def test_an_alias_that_is_taken_away_is_put_back_and_a_deleted_version_serves_on(
    person: Person,
) -> None:
    first = person.first_champion()
    person.drop("champion")
    person.wait_for(lambda: person.aliases().get("champion") == first)
    assert person.predict()["version"] == first
    person.page.delete_model_version(person.model, str(first))
    person.wait_for(lambda: any(one["severity"] == "page" for one in person.incidents()))
    assert person.predict()["version"] == first


def test_a_challenger_earns_its_traffic(person: Person) -> None:
    first = person.first_champion()
    second = person.register("better", passed=True)
    person.alias("challenger", second)
    person.wait_for(lambda: person.state(second) == "shadow")
    phases = set()
    for _ in range(200):
        person.stream(20)
        routing = person.client.get(f"/v1/models/{person.model}").json()["routing"]
        phases.add(routing["phase"])
        if routing["champion"] == second:
            break
    assert person.predict()["version"] == second
    assert phases >= {"shadow", "canary"}
    person.wait_for(lambda: person.aliases() == {"champion": second, "standby": first})
    person.wait_for(lambda: person.state(second) == "serving")


def test_a_worse_challenger_is_turned_away(person: Person) -> None:
    first = person.first_champion()
    bad = person.register("bad", passed=True)
    person.alias("challenger", bad)
    person.wait_for(lambda: person.state(bad) == "shadow")
    for _ in range(50):
        person.stream(20)
        if person.client.get(f"/v1/models/{person.model}").json()["routing"]["phase"] == "steady":
            break
    assert {person.predict()["version"]} == {first}
    person.wait_for(lambda: "challenger" not in person.aliases())
    person.wait_for(lambda: person.state(bad) == "rejected")
    assert "worse" in person.tags(bad)["lifecycle.reason"]


def test_a_name_that_is_nearly_right_moves_nothing_and_says_so_on_the_page(
    person: Person,
) -> None:
    first = person.first_champion()
    second = person.register("better", passed=True)
    person.alias("Champion", second)
    person.wait_for(lambda: "moves no traffic" in person.tags(second).get("lifecycle.notice", ""))
    assert "**Note:** The alias 'Champion'" in person.description(second)
    person.wait_for(lambda: "'Champion' moves no traffic" in person.told())
    assert person.aliases() == {"champion": first, "Champion": second}
    assert person.predict()["version"] == first
    assert person.routing()["generation"] == 1
    person.drop("Champion")
    person.wait_for(lambda: "lifecycle.notice" not in person.tags(second))
    assert person.description(second) == ""
