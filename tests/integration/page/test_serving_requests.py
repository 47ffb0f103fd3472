"""Moves of aliases that are no plain promotion: each has one stated outcome."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.integration.page.conftest import Person

PERSON, US = "unknown (MLflow)", "homeostat"


def moves(person: Person) -> list[tuple[str, str | None, str | None]]:
    return [(line.actor, line.before, line.after) for line in person.alias_lines()]


def longer(person: Person, lines: int) -> Callable[[], bool]:
    return lambda: len(person.alias_lines()) > lines


def test_every_alias_move_is_a_line_of_the_ledger_with_who_made_it(person: Person) -> None:
    first = person.first_champion()
    second = person.register("better", passed=True)
    person.alias("champion", second)
    person.settled(second)
    assert moves(person) == [
        (PERSON, None, f"champion={first}"),
        (PERSON, f"champion={first}", f"champion={second}"),
        (US, None, f"standby={first}"),
    ]


def test_put_back_once_is_remembered_by_the_next_gateway(someone: Person) -> None:
    with someone.gateway():
        first = someone.first_champion()
        bad = someone.register("bad", passed=False)
        someone.alias("champion", bad)
        someone.wait_for(lambda: someone.aliases()["champion"] == first)
        assert someone.state(bad) == "rejected"
    with someone.gateway():
        someone.alias("champion", bad)
        someone.wait_for(lambda: any(one["severity"] == "page" for one in someone.incidents()))
        assert someone.aliases()["champion"] == bad
        assert someone.predict()["version"] == first
        assert "stands where it was put" in someone.reason(bad)
    with someone.gateway():  # nor is it put back by the one after
        assert someone.aliases()["champion"] == bad
        someone.ask("overrides", version=bad, reason="I know better", expires_hours=1)
        someone.settled(bad)  # the alias stands: leave is all that was missing
        assert {one["severity"]: one["state"] for one in someone.incidents()} == {
            "page": "resolved",
            "ticket": "open",
        }


def test_the_page_says_what_became_of_it_beside_what_the_author_wrote(person: Person) -> None:
    first = person.first_champion("Trained on **all** of it.\n\n* by Ada\n")
    assert person.description(first).endswith("Trained on **all** of it.\n\n* by Ada\n")
    assert "Homeostat says: Serving since 20" in person.description(first)
    bad = person.register("bad", passed=False)
    person.alias("champion", bad)
    person.wait_for(lambda: person.aliases()["champion"] == first)
    person.wait_for(lambda: person.state(bad) == "rejected")
    assert "Homeostat says: Rejected" in person.description(bad)
    assert person.tags(bad)["lifecycle.generation"] == "1"
    second = person.register("better", passed=True)
    person.alias("champion", second)
    person.settled(second)
    text = person.description(first)
    assert "Homeostat says: Standby" in text
    assert "Serving" not in text
    assert text.endswith("Trained on **all** of it.\n\n* by Ada\n")


def test_what_is_written_back_leads_to_no_more_writing(person: Person) -> None:
    person.first_champion()
    person.api.writes.clear()
    looks = len(person.api.writes)
    time.sleep(1.5)  # seven looks
    assert person.api.writes[looks:] == []


def test_a_slow_start_is_told_on_the_page_as_loading(person: Person) -> None:
    first = person.first_champion()
    second = person.register("better", passed=True)
    person.alias("champion", second)
    person.settled(second)
    said = [line for line in person.api.writes if "update" in line]
    assert len(said) >= 3  # the first, the second loading, the second serving
    assert person.state(first) == "standby"


def test_a_challenger_before_any_champion_waits_for_one(person: Person) -> None:
    second = person.register("better", passed=True)
    person.alias("challenger", second)
    person.wait_for(lambda: person.state(second) == "waiting")
    assert "set champion first" in person.reason(second)
    assert person.aliases() == {"challenger": second}
    assert person.routing() == {}
    person.first_champion()
    person.wait_for(lambda: person.state(second) == "shadow")


def test_an_alias_on_a_model_with_no_routing_is_taken_off_a_version_that_may_not_serve(
    person: Person,
) -> None:
    bad = person.register("bad", passed=False)
    person.alias("champion", bad)
    person.wait_for(lambda: person.aliases() == {})
    assert person.state(bad) == "rejected"
    assert person.routing() == {}


def test_a_version_that_nobody_registered_with_us_is_refused_with_the_reason(
    person: Person,
) -> None:
    first = person.first_champion()
    run = person.page.create_run("0")
    source = f"{run.info.artifact_uri}/model"
    foreign = int(person.page.create_model_version(person.model, source, run.info.run_id).version)
    person.alias("champion", foreign)
    person.wait_for(lambda: person.aliases()["champion"] == first)
    assert person.state(foreign) == "rejected"
    assert "without a digest" in person.reason(foreign)


def test_a_version_deleted_right_after_it_was_asked_for_changes_nothing(person: Person) -> None:
    first = person.first_champion()
    second = person.register("better", passed=True)
    person.api.down = True
    person.alias("champion", second)
    person.page.delete_model_version(person.model, str(second))
    person.api.down = False
    person.wait_for(lambda: person.aliases() == {"champion": first})
    assert person.predict()["version"] == first


def test_the_champion_cannot_be_its_own_challenger(person: Person) -> None:
    first = person.first_champion()
    person.alias("challenger", first)
    person.wait_for(lambda: person.aliases() == {"champion": first})
    person.wait_for(lambda: "tried against itself" in person.reason(first))
    assert person.state(first) == "serving"
    assert person.routing()["generation"] == 1


def test_a_standby_alias_moved_by_hand_is_put_back_and_explained(person: Person) -> None:
    first = person.first_champion()
    second = person.register("better", passed=True)
    person.alias("champion", second)
    person.settled(second)
    third = person.register("good", passed=True)
    person.alias("standby", third)
    person.wait_for(lambda: person.aliases() == {"champion": second, "standby": first})
    person.wait_for(lambda: "follows the champion before" in person.reason(third))
    assert person.routing()["standby"] == first
    assert moves(person)[-2:] == [
        (PERSON, f"standby={first}", f"standby={third}"),
        (US, f"standby={third}", f"standby={first}"),
    ]


def test_a_stale_tab_that_removes_the_live_alias_stops_nothing(person: Person) -> None:
    first = person.first_champion()
    person.drop("champion")
    person.wait_for(lambda: "was taken away" in person.told())
    assert person.aliases() == {"champion": first}
    assert person.predict()["version"] == first
    assert moves(person)[-2:] == [
        (PERSON, f"champion={first}", None),
        (US, None, f"champion={first}"),
    ]
    person.drop("champion")  # again: it is put back again, and somebody is called
    person.wait_for(lambda: any(one["severity"] == "page" for one in person.incidents()))
    person.wait_for(lambda: person.aliases() == {"champion": first})


def test_calls_that_the_page_makes_at_once_are_one_edit(person: Person) -> None:
    """The page takes an alias off one version and puts it on another, in no order."""
    person.first_champion()
    second = person.register("better", passed=True)
    calls = [
        threading.Thread(target=person.drop, args=("champion",)),
        threading.Thread(target=person.alias, args=("note", second)),
    ]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    person.alias("champion", second)
    person.settled(second)
    assert "taken away" not in person.told()
    assert person.routing()["generation"] == 2


def test_mlflow_gone_after_the_move_leaves_traffic_moved_and_the_page_to_follow(
    person: Person,
) -> None:
    first = person.first_champion()
    second = person.register("better", passed=True)
    person.alias("champion", second)
    person.wait_for(lambda: person.serves() == second)
    person.api.down = True  # before, between or after its writes: the next look finds which
    for _ in range(3):
        person.stream(1)
    assert person.predict()["version"] == second
    person.api.down = False
    person.settled(second)
    person.wait_for(lambda: person.aliases() == {"champion": second, "standby": first})


def test_a_person_who_moves_the_alias_while_ours_is_to_be_written_wins(person: Person) -> None:
    first = person.first_champion()
    second = person.register("better", passed=True)
    person.alias("champion", second)
    person.settled(second)
    third = person.register("better", passed=True)
    person.api.down = True
    person.ask("rollback", reason="for the test")
    person.alias("champion", third)
    assert person.serves() == first
    person.api.down = False
    person.settled(third)
    assert person.aliases()["champion"] == third
    assert "while routing 3" in person.told()
    assert "left to the person" in person.told()


def test_an_alias_moved_back_goes_back_to_the_champion_before(person: Person) -> None:
    first = person.first_champion()
    second = person.register("better", passed=True)
    person.alias("champion", second)
    person.settled(second)
    person.alias("champion", first)
    person.settled(first)
    person.wait_for(lambda: person.state(second) == "standby")
    assert person.aliases() == {"champion": first, "standby": second}


def test_the_policy_warn_serves_it_and_opens_a_ticket(someone: Person) -> None:
    policy = someone.settings.models[someone.model].model_copy(update={"alias_moves": "warn"})
    someone.settings = someone.settings.model_copy(update={"models": {someone.model: policy}})
    with someone.gateway():
        someone.first_champion()
        bad = someone.register("bad", passed=False)
        someone.alias("champion", bad)
        someone.settled(bad)
        someone.wait_for(lambda: "without a passing verdict" in someone.told())
        assert {one["severity"] for one in someone.incidents()} == {"ticket"}


def test_a_move_is_seen_within_two_seconds_at_the_default_pace(someone: Person) -> None:
    pace = type(someone.settings).model_fields["poll_seconds"].default
    assert pace == 1.0
    someone.settings = someone.settings.model_copy(update={"poll_seconds": pace})
    with someone.gateway():
        first = someone.first_champion()
        bad = someone.register("bad", passed=False)
        took: list[float] = []
        while len(took) < 3 and min(took, default=9.0) >= 2.0:  # a busy machine must not fail it
            lines = len(someone.alias_lines())
            someone.alias("note", bad)
            began = time.monotonic()
            someone.wait_for(longer(someone, lines))
            took.append(time.monotonic() - began)
            someone.drop("note")
            someone.wait_for(longer(someone, lines + 1))
        assert min(took) < 2.0
        assert someone.serves() == first


def test_a_trial_begun_by_command_gets_its_alias_and_one_that_gives_way_loses_it(
    person: Person,
) -> None:
    first = person.first_champion()
    second = person.register("better", passed=True)
    person.ask("rollout/start", version=second, reason="it learnt more")
    person.wait_for(lambda: person.aliases().get("challenger") == second)
    person.wait_for(lambda: person.state(second) == "shadow")
    third = person.register("better", passed=True)
    person.ask("rollout/start", version=third, reason="it learnt still more")
    person.wait_for(lambda: person.aliases().get("challenger") == third)
    time.sleep(3 * person.settings.poll_seconds)  # looks in which nothing may be taken for a wish
    assert (person.routing()["champion"], person.routing()["challenger"]) == (first, third)
    person.ask("rollout/abort", reason="enough")
    person.wait_for(lambda: "challenger" not in person.aliases())
    assert person.routing()["challenger"] is None
