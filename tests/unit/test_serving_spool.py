from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from homeostat.errors import Unavailable
from serving.spool import Spool, read_frames


def drained(spool: Spool) -> list[bytes]:
    found: list[bytes] = []
    spool.drain(found.extend)
    return found


def test_what_was_appended_comes_out_once_and_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([b"one", b"two"])
    spool.append([b"three"])
    assert drained(spool) == [b"one", b"two", b"three"]
    assert drained(spool) == []
    assert spool.pending_bytes == 0


def test_a_process_that_dies_leaves_its_entries_to_the_next_one(tmp_path: Path) -> None:
    dead = Spool(tmp_path)
    dead.append([b"answered"])
    for _, lock in dead._held:  # what the operating system does when a process dies
        lock.close()
    assert drained(Spool(tmp_path)) == [b"answered"]


def test_the_entries_of_a_living_process_are_left_to_it(tmp_path: Path) -> None:
    living, other = Spool(tmp_path), Spool(tmp_path)
    living.append([b"mine"])
    assert drained(other) == []
    assert drained(living) == [b"mine"]


def test_spools_that_open_and_close_at_once_take_nothing_from_one_another(tmp_path: Path) -> None:
    together = threading.Barrier(8, timeout=20)

    def come_and_go(number: int) -> list[bytes]:
        mine = []
        for turn in range(25):
            together.wait()
            spool = Spool(tmp_path)
            spool.append([f"{number}/{turn}".encode()])
            mine += drained(spool)
            spool.close()
        return mine

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(come_and_go, range(8)))
    assert found == [[f"{number}/{turn}".encode() for turn in range(25)] for number in range(8)]
    assert list(tmp_path.iterdir()) == []


def test_a_torn_tail_is_left_out_and_what_is_whole_is_kept(tmp_path: Path) -> None:
    dead = Spool(tmp_path)
    dead.append([b"whole", b"torn away"])
    segment = next(tmp_path.glob("*/*.log"))
    for cut in range(1, len(b"torn away") + 8):
        os.truncate(segment, 2 * 8 + len(b"wholetorn away") - cut)
        assert list(read_frames(segment)) == [b"whole"]


def test_a_flipped_bit_ends_the_segment_there(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([b"first", b"second"])
    segment = next(tmp_path.glob("*/*.log"))
    data = bytearray(segment.read_bytes())
    data[-1] ^= 1
    segment.write_bytes(data)
    assert list(read_frames(segment)) == [b"first"]


def test_what_could_not_be_handled_is_handed_on_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([b"a", b"b"])

    def away(_: list[bytes]) -> None:
        raise Unavailable("The database is away.")

    with pytest.raises(Unavailable):
        spool.drain(away)
    spool.append([b"c"])
    assert drained(spool) == [b"a", b"b", b"c"]


def test_a_full_disk_refuses_the_batch_and_keeps_the_file_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path)
    spool.append([b"before"])
    write = os.write

    def half(descriptor: int, data: bytes) -> int:
        return write(descriptor, data[: len(data) // 2])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(Unavailable, match="cannot be written"):
            spool.append([b"does not fit"])
    spool.append([b"after"])
    assert drained(spool) == [b"before", b"after"]


def test_a_large_segment_is_sealed_without_anybody_draining(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_bytes=100)
    for number in range(10):
        spool.append([bytes([number]) * 60])
    assert len(list(tmp_path.glob("*/*.log"))) == 6
    assert len(drained(spool)) == 10


def test_a_drained_spool_leaves_no_folder_behind(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([b"x"])
    drained(spool)
    spool.close()
    assert list(tmp_path.iterdir()) == []
