"""A memory larger than memory: bounded by bytes, written in parts, read where it lies."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from homeostat.errors import ArtifactError, DataError
from models import Examples, Memory
from models.mapped import Parts, map_tensors, write_tensors
from models.scattered import Scattered

TENSORS = {
    "x": torch.randn(7, 3, generator=torch.Generator().manual_seed(0)),
    "y": torch.arange(7),
    "regime": torch.arange(7) * 2,
    "key": torch.linspace(0, 1, 7, dtype=torch.float64),
}


def parts() -> dict[str, Parts]:
    found = {name: Parts.of(one) for name, one in TENSORS.items()}
    x = TENSORS["x"]
    return {**found, "x": Parts(x.dtype, (7, 3), iter([x[:2], x[2:]]))}


def test_the_file_is_byte_for_byte_the_librarys(tmp_path: Path) -> None:
    path = tmp_path / "some.safetensors"
    write_tensors(path, parts())
    assert path.read_bytes() == safetensors.torch.save(TENSORS)
    found = map_tensors(path, 1 << 20)
    assert all(torch.equal(found[name], one) for name, one in TENSORS.items())


def test_writing_to_what_was_mapped_changes_no_file_and_a_new_file_not_what_was_mapped(
    tmp_path: Path,
) -> None:
    path = tmp_path / "some.safetensors"
    write_tensors(path, parts())
    before, found = path.read_bytes(), map_tensors(path, 1 << 20)
    found["y"][0] = 99
    assert path.read_bytes() == before
    write_tensors(path, {"y": Parts.of(torch.zeros(1))})
    assert torch.equal(found["x"], TENSORS["x"])


def edited(header: Callable[[dict[str, dict[str, object]]], object], content: bytes) -> bytes:
    length = int.from_bytes(content[:8], "little")
    about = json.loads(content[8 : 8 + length])
    header(about)
    text = json.dumps(about).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:5],
        lambda content: content[:-1],
        lambda content: content + b"more",
        lambda content: b"\xff" * 8 + content[8:],
        lambda content: edited(lambda h: h["y"].update(dtype="I8"), content),
        lambda content: edited(lambda h: h["y"].update(shape=[8]), content),
        lambda content: edited(lambda h: h["y"].update(shape=[-7]), content),
        lambda content: edited(lambda h: h["y"].update(shape="7"), content),
        lambda content: edited(lambda h: h["y"].update(data_offsets=[0, 56, 9]), content),
        lambda content: edited(lambda h: h["y"].update(data_offsets=[0, 56]), content),
        lambda content: edited(lambda h: h["y"].update(more=1), content),
        lambda content: edited(lambda h: h.update(y={}), content),
        lambda content: edited(lambda h: h.pop("y"), content),
    ],
)
def test_a_file_that_is_not_as_it_says_is_refused(
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "some.safetensors"
    path.write_bytes(change(safetensors.torch.save(TENSORS)))
    with pytest.raises(ArtifactError, match="safetensors file"):
        map_tensors(path, 1 << 20)


def test_a_file_that_is_too_large_or_a_link_is_refused(tmp_path: Path) -> None:
    path, link = tmp_path / "some.safetensors", tmp_path / "link"
    write_tensors(path, parts())
    link.symlink_to(path)
    for each, limit in ((path, 10), (link, 1 << 20)):
        with pytest.raises(ArtifactError, match=r"are read|cannot be read"):
            map_tensors(each, limit)


def test_scattered_rows_are_what_a_copy_of_them_all_would_be() -> None:
    one, two = torch.arange(12.0).reshape(6, 2), torch.arange(100.0, 108.0).reshape(4, 2)
    rows = Scattered.of(one).joined(two)
    assert torch.equal(rows.together(), torch.cat([one, two]))
    places = torch.tensor([1, 4, 7, 9])
    some = rows.taken(places.numpy())
    assert torch.equal(some.together(), torch.cat([one, two])[places])
    assert len(some.parts[1]) == 2  # what is not kept of the new rows is let go
    assert Scattered.of(one).together() is one
    assert len(rows.taken(places[2:].numpy()).parts) == 1


def rows(count: int, width: int = 4, start: int = 0) -> Examples:
    x = torch.arange(start, start + count, dtype=torch.float32)[:, None].repeat(1, width)
    return Examples(x, torch.arange(count) % 2, tuple(f"r{start + n}" for n in range(count)))


def test_bytes_bound_a_memory_where_rows_would_not() -> None:
    of_row = 4 * 4 + 8 + 16 + 40
    memory = Memory(100, 0, most_bytes=10 * of_row + 5)
    memory.add(rows(50))
    assert len(memory) == 10
    memory.most_bytes = 4 * of_row
    memory.add(rows(1, start=50))
    assert len(memory) == 4
    memory.most_bytes = of_row - 1
    with pytest.raises(DataError, match="A row has 80 bytes"):
        memory.add(rows(1))


def test_a_loaded_memory_keeps_its_bound_of_bytes(tmp_path: Path) -> None:
    memory = Memory(100, 3, most_bytes=1600)
    memory.add(rows(50))
    memory.save(tmp_path)
    again = Memory.load(tmp_path)
    for each in (memory, again):
        each.add(rows(50, start=50))
    assert len(again) == 20
    assert again.ids == memory.ids
    assert torch.equal(again.examples().x, memory.examples().x)


def test_a_memory_may_be_saved_over_the_files_that_it_lies_in(tmp_path: Path) -> None:
    memory = Memory(100, 3)
    memory.add(rows(60))
    memory.save(tmp_path)
    again = Memory.load(tmp_path)
    again.add(rows(60, start=60))
    again.save(tmp_path)
    memory.add(rows(60, start=60))
    assert torch.equal(Memory.load(tmp_path).examples().x, memory.examples().x)


def test_a_memory_takes_room_as_it_is_used_not_as_it_is_large(tmp_path: Path) -> None:
    """64 MB of rows: loaded, added to and saved again within a quarter of that."""
    memory = Memory(10_000, 0)
    memory.add(rows(8_000, width=2_000))
    memory.save(tmp_path)
    del memory

    def resident() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    before = resident()
    again = Memory.load(tmp_path)
    again.add(rows(10, width=2_000, start=8_000))
    assert len(again) == 8_010
    assert resident() - before < 16_000_000
    assert again.examples().x[8_009, 0] == 8_009
