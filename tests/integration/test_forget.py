"""A subject's rows go from the log, the memories and the frozen rows; what stays is named."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from sqlalchemy import Engine
from typer.testing import CliRunner
from uuid6 import uuid7

from homeostat.cli import app
from homeostat.clock import utc_now
from homeostat.commands.exits import REMAINS
from homeostat.errors import InputError, Refused
from homeostat.policy import RetrainPolicy
from models import Examples, Memory, Regimes
from models.artifact import write_manifest
from registry import LabelItem, MlflowVersions, lines_of, record_labels, sessions, transaction
from registry.blocks import Arm, Columns, id_bytes, to_blocks
from registry.cache import ArtifactCache
from registry.custody import Pins, pin_version
from registry.erasing import Erased, Places, erase, search, seen_by
from registry.ledger_proof import verify_ledger
from registry.log import find_predictions, log_blocks
from registry.losses import record_losses
from registry.retrains import request_retrain
from registry.subjects import Subject, parse_subject
from serving.entries import Entry
from serving.spool import Spool
from serving.spooled import spooled_rows

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
ANN, BOB = {"customer": 123, "age": 40.0}, {"customer": 7, "age": 41.0}
ROWS = [ANN, BOB, ANN, BOB]


class Installation:
    """A database, an MLflow and a state folder with answers about two customers."""

    def __init__(self, engine: Engine, url: str, state: Path) -> None:
        self.model = f"loans-{uuid4().hex}"
        self.state = state
        self.store = MlflowVersions(url, timeout=30.0)
        self.page = MlflowClient(url)
        self.cache = ArtifactCache(state / "versions")
        self.places = Places(
            sessions(engine),
            sessions(engine, read_only=True),
            self.store,
            self.cache,
            partial(spooled_rows, state / "spool", self.model),
        )
        self.ids = [str(uuid7()) for _ in ROWS]
        with transaction(self.places.writing) as session:
            log_blocks(session, to_blocks([(self.arm, answers(self.ids, ROWS))]))
            labels = [LabelItem(one, 1) for one in self.ids[:2]]
            record_labels(session, labels, NOON + timedelta(minutes=1))
            record_losses(session, [(one, 1, 0.5, NOON) for one in self.ids[:2]])

    @property
    def arm(self) -> Arm:
        return Arm(self.model, 1, 1, "champion")

    def register(self, folder: Path, *, golden: Mapping[str, Any] = BOB) -> int:
        """A version whose memory has the first two answers, and whose frozen rows the others."""
        model, replay = folder / "model", folder / "replay"
        for one in (model, replay):
            one.mkdir(parents=True)
        (model / "golden.json").write_text(json.dumps({"rows": [golden], "outputs": [[0.0]]}))
        digest = write_manifest(model)
        memory, regimes = Memory(8, 0), Regimes()
        memory.add(rows_of(("", *self.ids[:2])))
        regimes.add(0, rows_of(("", *self.ids[2:])))
        memory.save(replay)
        regimes.save(replay)
        write_manifest(replay)
        (folder / "rows.json").write_text(json.dumps({"schema": 1, "ids": self.ids}))
        known = self.page.get_experiment_by_name(self.model)
        made = known.experiment_id if known else self.page.create_experiment(self.model)
        run = self.page.create_run(made).info.run_id
        self.page.log_artifacts(run, str(folder))
        self.page.set_terminated(run)
        version = self.store.register(self.model, run, "model", digest, uuid4().hex)
        pin_version(self.store, self.cache, self.model, version, digest, "champion", 1, utc_now())
        return version

    def erase(self, subject: Subject) -> Erased:
        return erase(self.places, self.model, subject, actor="ann", reason="asked", at=NOON)

    def memory_ids(self, version: int, folder: Path) -> tuple[set[str], set[str]]:
        """What MLflow and the copy on this disk hold."""
        run = self.store.version(self.model, version).run_id
        there = Path(self.page.download_artifacts(run, "replay", str(folder)))
        here = self.cache.find(self.store.digest(self.model, version), "replay")
        assert here is not None
        found = [{*Memory.load(one).ids, *Regimes.load(one).ids} for one in (there, here)]
        return found[0], found[1]


def rows_of(ids: tuple[str, ...]) -> Examples:
    x = torch.arange(len(ids), dtype=torch.float32).reshape(-1, 1)
    return Examples(x, torch.zeros(len(ids), dtype=torch.int64), ids)


def answers(ids: list[str], rows: list[dict[str, Any]]) -> Columns:
    outputs = np.arange(2 * len(ids), dtype="<f4").reshape(-1, 2)
    return Columns(
        at=int(NOON.timestamp()) * 10**6,
        ids=b"".join(id_bytes(one) or b"" for one in ids),
        entities=[f"e{place}" for place in range(len(ids))],
        columns=0,
        exact=False,
        rows=b"\n".join(json.dumps(row).encode() for row in rows),
        width=2,
        outputs=outputs.tobytes(),
        answers=b"\n".join(b'{"prediction":%d}' % place for place in range(len(ids))),
        shadows=[(7, 2, (outputs + 100).tobytes())],
    )


@pytest.fixture
def place(engine: Engine, mlflow_url: str, tmp_path: Path) -> Iterator[Installation]:
    made = Installation(engine, mlflow_url, tmp_path / "state")
    with closing(made.store):
        yield made


CUSTOMER = parse_subject(["customer=123"], "", [])


def test_a_subject_is_gone_from_everywhere_and_others_are_as_they_were(
    place: Installation, tmp_path: Path
) -> None:
    version = place.register(tmp_path / "run")
    digest = place.store.digest(place.model, version)
    with transaction(place.places.reading) as session:
        before = find_predictions(session, place.ids)
    anns, bobs = place.ids[0::2], place.ids[1::2]

    done = place.erase(CUSTOMER)

    assert set(done.before.rows) == set(anns)
    assert done.before.log == {
        "predictions": 2,
        "labels": 1,
        "held labels": 0,
        "losses": 1,
        "revised losses": 0,
        "shadows": 1,
    }
    (held,) = done.before.runs
    assert (held.memory, held.snapshots, held.copies, held.unnamed) == (1, 1, 2, 2)
    assert done.after.proven
    assert done.gone == done.before.log
    assert seen_by(done.before, [])[0].version == version
    with transaction(place.places.reading) as session:
        after = find_predictions(session, place.ids)
    assert set(after) == set(bobs)
    for one in bobs:
        assert (after[one].row, after[one].entity) == (before[one].row, before[one].entity)
        assert after[one].answer == before[one].answer
        np.testing.assert_array_equal(after[one].output, before[one].output)
        ((_, shadow),) = after[one].shadows
        np.testing.assert_array_equal(shadow, before[one].output + 100)
    assert place.memory_ids(version, tmp_path) == ({"", *bobs}, {"", *bobs})
    (pin,) = Pins(place.cache).of(place.model)
    assert not Pins(place.cache).faults(pin)
    assert place.store.digest(place.model, version) == digest


def test_the_ledger_has_who_and_how_many_and_not_whom(place: Installation) -> None:
    done = place.erase(CUSTOMER)
    with transaction(place.places.reading) as session:
        lines = lines_of(session, place.model)
        verify_ledger(session, place.model)
    assert [line.kind for line in lines] == ["forgetting", "forgotten"]
    assert {line.actor for line in lines} == {"ann"}
    assert lines[1].after == "0 rows"
    assert lines[1].evidence["gone"]["predictions"] == 2
    assert lines[1].evidence["subject"] == CUSTOMER.sealed(done.salt)
    told = repr(lines)
    assert done.salt not in told
    assert "customer" not in told
    assert not any(one in told for one in place.ids)


def test_golden_rows_are_a_part_of_the_version_and_are_told(
    place: Installation, tmp_path: Path
) -> None:
    place.register(tmp_path / "run", golden=ANN)
    done = place.erase(CUSTOMER)
    assert not done.after.proven
    assert (done.after.removable, done.after.left) == (0, 1)
    (held,) = done.after.runs
    assert held.golden == 1


def test_a_memory_that_cannot_be_read_is_no_proof_and_the_next_try_mends_it(
    place: Installation, tmp_path: Path
) -> None:
    """As an upload that was cut off leaves it: the copy here is the whole one."""
    version = place.register(tmp_path / "run")
    run = place.store.version(place.model, version).run_id
    place.page.log_text(run, "{}", "replay/memory.json")
    found = search(place.places, place.model, CUSTOMER)
    assert found.runs[0].trouble
    assert not found.proven
    digest = place.store.digest(place.model, version)
    assert place.cache.find(digest, "replay") is not None

    done = place.erase(parse_subject([], "", place.ids[:1]))

    assert done.before.runs[0].trouble
    assert done.after.proven
    assert place.ids[0] not in place.memory_ids(version, tmp_path)[0]


def test_answers_on_their_way_to_the_log_are_found(place: Installation) -> None:
    spool = Spool(place.state / "spool")
    late = answers([str(uuid7())], [ANN])
    entry = Entry(place.model, 1, 1, "champion", late, [])
    spool.append([msgspec.msgpack.encode(entry)])
    other = msgspec.structs.replace(entry, model="another")
    spool.append([msgspec.msgpack.encode(other)])
    assert search(place.places, place.model, CUSTOMER).spooled == 1
    done = place.erase(CUSTOMER)
    assert (done.after.spooled, done.after.proven) == (1, False)
    drained: list[list[bytes]] = []
    spool.drain(drained.append)
    assert place.erase(CUSTOMER).after.proven
    spool.close()


def test_an_entity_and_an_id_name_rows_as_well(place: Installation) -> None:
    found = search(place.places, place.model, parse_subject([], "e1", [place.ids[3]]))
    assert set(found.rows) == {place.ids[1], place.ids[3]}
    assert place.erase(parse_subject([], "e1", [place.ids[3]])).after.proven
    assert set(search(place.places, place.model, Subject(ids=frozenset(place.ids))).rows) == {
        place.ids[0],
        place.ids[2],
    }


def test_every_row_of_a_block_may_go(place: Installation) -> None:
    assert place.erase(Subject(ids=frozenset(place.ids))).gone["predictions"] == 4
    with transaction(place.places.reading) as session:
        assert not find_predictions(session, place.ids)


def test_a_prediction_of_another_model_is_not_touched(place: Installation) -> None:
    with pytest.raises(InputError, match="another model"):
        erase(
            place.places,
            "others",
            Subject(ids=frozenset(place.ids[:1])),
            actor="a",
            reason="r",
            at=NOON,
        )


def test_the_command_shows_first_and_exits_with_7_where_rows_are_left(
    place: Installation, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.register(tmp_path / "run", golden=ANN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOMEOSTAT_STATE_DIR", str(place.state))
    monkeypatch.setenv("HOMEOSTAT_DATABASE_URL", database_url)
    monkeypatch.setenv("HOMEOSTAT_MLFLOW_URL", place.page.tracking_uri)
    run = partial(CliRunner().invoke, app)
    command = ["forget", place.model, "--where", "customer=123"]

    shown = run(command)
    assert shown.exit_code == 0, shown.output
    assert "Nothing was changed" in shown.output
    assert search(place.places, place.model, CUSTOMER).log["predictions"] == 2

    done = run([*command, "--yes", "--json"])
    assert done.exit_code == REMAINS, done.output
    said = json.loads(done.output)
    assert said["left"]["runs"][0]["golden"] == 1
    assert not said["proven"]
    assert said["seen_by"] == [{"version": 1, "through": 0}]
    assert sum(said["left"]["log"].values()) == 0

    gone = run(["forget", place.model, "--id", place.ids[1], "--yes"])
    assert gone.exit_code == 0, gone.output
    assert "nothing is left" in gone.output
    assert run(["forget", place.model]).exit_code != 0


def test_nothing_is_removed_while_a_retrain_reads(place: Installation) -> None:
    with transaction(place.places.writing) as session:
        assert request_retrain(session, place.model, "", "key", RetrainPolicy(), NOON)
    with pytest.raises(Refused, match="retrain"):
        place.erase(CUSTOMER)
