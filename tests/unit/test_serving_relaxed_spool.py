"""`log.durability = "relaxed"`: groups are written behind; what is stated can be lost, no more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from homeostat.errors import Unavailable
from serving.relaxed_spool import GROUP_BYTES, GROUP_SECONDS, RelaxedSpool
from serving.spool import read_frames


class Hand:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def spool(tmp_path: Path, clock: Hand) -> RelaxedSpool:
    return RelaxedSpool(tmp_path, 10 * GROUP_BYTES, clock)


def on_disk(folder: Path) -> list[bytes]:
    """What a process that is killed now leaves behind."""
    return [frame for path in sorted(folder.glob("*/*.log")) for frame in read_frames(path)]


def test_a_group_is_written_by_the_first_entry_after_its_time(
    spool: RelaxedSpool, clock: Hand, tmp_path: Path
) -> None:
    spool.append([b"one"])
    clock.now += GROUP_SECONDS / 2
    spool.append([b"two"])
    assert on_disk(tmp_path) == []
    clock.now += GROUP_SECONDS
    spool.append([b"three"])
    assert on_disk(tmp_path) == [b"one", b"two"]


def test_a_large_group_does_not_wait_for_its_time(spool: RelaxedSpool, tmp_path: Path) -> None:
    spool.append([b"x" * GROUP_BYTES])
    spool.append([b"next"])
    assert len(on_disk(tmp_path)) == 1


def test_a_drain_hands_the_group_on_in_order_and_once(spool: RelaxedSpool, clock: Hand) -> None:
    handled: list[bytes] = []
    spool.append([b"one"])
    clock.now += 1
    spool.append([b"two"])
    assert spool.pending_bytes > 0
    assert spool.drain(handled.extend) == 2
    assert handled == [b"one", b"two"]
    assert spool.drain(handled.extend) == 0
    assert spool.pending_bytes == 0


def test_an_orderly_end_loses_nothing(spool: RelaxedSpool, clock: Hand, tmp_path: Path) -> None:
    spool.append([b"last"])
    spool.close()
    handled: list[bytes] = []
    RelaxedSpool(tmp_path, GROUP_BYTES, clock).drain(handled.extend)
    assert handled == [b"last"]


def test_the_group_counts_towards_the_limit(tmp_path: Path, clock: Hand) -> None:
    spool = RelaxedSpool(tmp_path, 100, clock)
    spool.append([b"x" * 100])
    with pytest.raises(Unavailable, match="at most 100"):
        spool.append([b"y"])


def test_a_full_disk_refuses_the_new_entry_and_keeps_the_group(
    spool: RelaxedSpool, clock: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.append([b"taken"])
    clock.now += 2 * GROUP_SECONDS
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda _descriptor, _data: 0)
        with pytest.raises(Unavailable):
            spool.append([b"refused"])
    handled: list[bytes] = []
    spool.drain(handled.extend)
    assert handled == [b"taken"]
