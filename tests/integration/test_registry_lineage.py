"""Lineage and the matrix of versions on both databases."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session, sessionmaker

from homeostat.errors import ArtifactError, Refused, UnknownVersion
from registry import Verdict, promote, quarantine, record_verdict, transaction
from registry.lineage_record import (
    Ancestor,
    CodeFacts,
    Cost,
    DataFacts,
    EnvironmentFacts,
    FileFacts,
    Lineage,
    MemoryFacts,
    Parent,
)
from registry.lineage_records import (
    ancestry,
    bind_lineage,
    find_lineage,
    keep_lineage,
    lineages,
    set_number,
)
from registry.matrix import matrix
from registry.numbers import Make, Number
from registry.version_info import DIGEST_TAG, VersionInfo

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
RECORD = Lineage(
    model="digits",
    number="",
    digest="aa" * 32,
    flow="pipeline",
    made_at=NOON.isoformat(),
    made_by="Trained on builtin:digits.",
    parent=None,
    champion=None,
    data=DataFacts("builtin:digits", "dd" * 32, 10, 7, 3, None, None, 0, (0,)),
    code=CodeFacts("0.1.0", None, False, "ee" * 32),
    environment=EnvironmentFacts("3.11", "Linux", "AVX2", 1, {"torch": "2.13.0"}, "ff" * 32),
    parameters={"learner": "digits", "retrain": {"holdout": 0.3}},
    seed=0,
    memory=MemoryFacts("bb" * 32, 7),
    cost=Cost(1.5, 1.25, 7, 30, 90, "epochs"),
    make=Make("digits", {}, ("pixel",), "cc" * 32, (0, 1), "dd" * 32),
    weights=1234,
    files={"model.safetensors": FileFacts("99" * 32, 4936)},
)
ONE, TWO = "aa" * 32, "ab" * 32
MEASURED = {
    "latency_p50_ms": 0.5,
    "latency_p99_ms": 2.5,
    "throughput_rows_s": 90_000.0,
    "memory_mb": 10.0,
    "size_bytes": 112_480.0,
    "regime_0_accuracy": 0.97,
    "regime_1_accuracy": 0.95,
    "regime_0_champion_accuracy": 0.98,
    "regime_1_champion_accuracy": 0.61,
}


def made_of(session: Session, version: int, digest: str, parent: int | None = None) -> Lineage:
    """Keep and bind the lineage of one more version."""
    before = find_lineage(session, "digits", parent) if parent else None
    record = replace(
        RECORD,
        digest=digest,
        flow="retrain" if before else "pipeline",
        parent=Parent(parent, before.digest, "continual_of") if before and parent else None,
        champion=Ancestor(parent, before.digest) if before and parent else None,
    )
    at = NOON + timedelta(minutes=version)
    kept = keep_lineage(session, f"work-{version}", record, at)
    bind_lineage(session, "digits", f"work-{version}", version)
    return kept


def listed(version: int, digest: str) -> VersionInfo:
    tags = {"lifecycle.state": "candidate", DIGEST_TAG: digest} if digest else {}
    return VersionInfo("digits", version, f"run-{version}", "", "", NOON, tags)


def keep(session: Session, version: int, record: Lineage) -> None:
    keep_lineage(session, f"work-{version}", record, NOON + timedelta(minutes=version))
    bind_lineage(session, "digits", f"work-{version}", version)


def test_a_lineage_is_read_as_it_was_written(session: Session) -> None:
    kept = keep_lineage(session, "work", RECORD, NOON)
    bind_lineage(session, "digits", "work", 1)

    found = find_lineage(session, "digits", 1)

    assert kept == replace(RECORD, number="1.0.0")
    assert found.record == kept
    assert (found.version, found.number, found.digest) == (1, Number(1, 0, 0), RECORD.digest)


def test_the_same_work_keeps_its_number_and_says_anew_what_it_made(session: Session) -> None:
    keep_lineage(session, "work", RECORD, NOON)

    again = keep_lineage(session, "work", replace(RECORD, digest="ab" * 32), NOON)

    assert again.number == "1.0.0"
    assert [each.digest for each in lineages(session, "digits")] == ["ab" * 32]


def test_the_lineage_of_a_registered_version_is_never_written_again(session: Session) -> None:
    kept = made_of(session, 1, "aa" * 32)

    again = keep_lineage(session, "work-1", replace(RECORD, digest="ab" * 32), NOON)

    assert again == kept


def test_a_line_is_walked_back_to_the_version_that_was_trained_anew(session: Session) -> None:
    made_of(session, 1, "aa" * 32)
    made_of(session, 2, "ab" * 32, parent=1)
    made_of(session, 3, "ac" * 32)
    made_of(session, 4, "ad" * 32, parent=2)

    line = ancestry(session, "digits", 4)

    assert [each.version for each in line] == [4, 2, 1]
    assert [str(each.number) for each in line] == ["1.0.3", "1.0.1", "1.0.0"]


def test_a_restored_version_takes_its_lineage_along_and_its_children_find_it(
    session: Session,
) -> None:
    made_of(session, 1, ONE)
    made_of(session, 2, TWO, parent=1)

    bind_lineage(session, "digits", "work-1", 3)

    assert [each.version for each in ancestry(session, "digits", 2)] == [2, 3]
    assert [str(each.number) for each in ancestry(session, "digits", 3)] == ["1.0.0"]


def test_a_version_without_a_lineage_is_told_from_one_that_has_it(session: Session) -> None:
    made_of(session, 1, "aa" * 32)

    with pytest.raises(UnknownVersion, match="version 7 of 'digits'"):
        ancestry(session, "digits", 7)


def test_a_number_may_be_changed_to_a_free_one_and_to_no_other(session: Session) -> None:
    made_of(session, 1, "aa" * 32)
    made_of(session, 2, "ab" * 32, parent=1)

    assert set_number(session, "digits", 2, Number(2, 0, 0)) == Number(1, 0, 1)
    with pytest.raises(Refused, match="is that of version 2"):
        set_number(session, "digits", 1, Number(2, 0, 0))

    assert [str(each.number) for each in lineages(session, "digits")] == ["1.0.0", "2.0.0"]
    assert made_of(session, 3, "ac" * 32, parent=2).number == "2.0.1"


def test_works_that_are_numbered_at_once_get_numbers_of_their_own(
    maker: sessionmaker[Session],
) -> None:
    with transaction(maker) as session:
        made_of(session, 1, "aa" * 32)

    def work(name: str) -> None:
        with transaction(maker) as session:
            keep_lineage(session, name, RECORD, NOON)

    workers = [threading.Thread(target=work, args=(f"at-once-{n}",)) for n in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    with transaction(maker) as session:
        numbers = [str(each.number) for each in lineages(session, "digits")]
    assert sorted(numbers) == [f"1.0.{n}" for n in range(7)]


@pytest.mark.parametrize("value", [None, [], {"schema": 2}, {"schema": 1, "model": "digits"}])
def test_what_is_no_lineage_is_refused(value: object) -> None:
    with pytest.raises(ArtifactError, match="not as it was written"):
        Lineage.from_json(value)


def test_a_row_holds_what_runs_measured_and_what_the_database_knows(session: Session) -> None:
    keep(session, 1, replace(RECORD, digest=ONE))
    parent = Parent(1, ONE, "continual_of")
    child = replace(RECORD, digest=TWO, flow="retrain", parent=parent, champion=Ancestor(1, ONE))
    keep(session, 2, child)
    record_verdict(session, "digits", 1, Verdict(True, (), ONE), NOON)
    record_verdict(session, "digits", 2, Verdict(False, (), TWO), NOON)
    promote(session, "digits", 1, actor="t", reason="t", evidence={}, now=NOON, digest=ONE)
    quarantine(session, "digits", TWO, "it lost accuracy", NOON, actor="test")

    first, second, foreign = matrix(
        session,
        "digits",
        [listed(1, ONE), listed(2, TWO), listed(3, "")],
        {1: {"regime_0_accuracy": 0.98}, 2: MEASURED, 3: {}},
    )

    assert (first.number, first.role, first.barred) == ("1.0.0", "champion", "")
    assert (second.number, second.role, second.barred) == ("1.0.1", "", "it lost accuracy")
    assert first.verdict is not None
    assert first.verdict.passed
    assert second.verdict is not None
    assert not second.verdict.passed
    assert second.latency_p99_ms == 2.5
    assert second.memory_bytes == 10 * 1024 * 1024
    assert (first.size_bytes, second.size_bytes) == (4936, 112_480)
    assert first.weights == second.weights == 1234
    assert second.accuracy == {0: 0.97, 1: 0.95}
    assert foreign == replace(
        foreign, number="", role="", state="", verdict=None, weights=None, accuracy={}
    )


def test_what_a_later_version_was_judged_beside_is_known_on_the_new_regime_too(
    session: Session,
) -> None:
    keep(session, 1, replace(RECORD, digest=ONE))
    parent = Parent(1, ONE, "continual_of")
    keep(session, 2, replace(RECORD, digest=TWO, parent=parent, champion=Ancestor(1, ONE)))

    first, _ = matrix(
        session,
        "digits",
        [listed(1, ONE), listed(2, TWO)],
        {1: {"regime_0_accuracy": 0.981}, 2: MEASURED},
    )

    assert first.accuracy == {0: 0.981, 1: 0.61}  # its own figure stands where it has one
