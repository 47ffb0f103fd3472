"""The learner of source text: bytes in, what comes next out, and what it foretold."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from homeostat.errors import ArtifactError, DataError, InvalidLabel, InvalidRow, SettingsError
from models import Budget, Code, Examples, Memory, evaluate, load_model, read_dataset, save_model
from models import retrain as go_on
from models.code import next_byte_loss
from models.code_net import PAD, CodeNet

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = Code(context=16, width=16, layers=1, horizon=4)
CHORUS = ["def one(x): ret", "def two(y): pas", "class A: pass\n\n\n", "import json\n\n# "]


def built(learner: Code = SMALL, seed: int = 0) -> CodeNet:
    model = learner.build(torch.Generator().manual_seed(seed))
    assert isinstance(model, CodeNet)
    return model


def songs(learner: Code, lines: list[str], count: int = 200) -> tuple[Examples, list[str]]:
    """Windows of a text that repeats its lines, and what follows each."""
    text = "".join(lines) * 20
    starts = [(7 * n) % (len(text) - 40) for n in range(count)]
    rows = [text[start : start + learner.context] for start in starts]
    labels = [text[start + learner.context :][:4] for start in starts]
    return Examples(learner.encode(rows), learner.targets(labels)), rows


def test_a_text_stands_at_the_right_and_its_last_bytes_are_read() -> None:
    short, long, odd = SMALL.encode(["ab", {"text": "x" * 20 + "y"}, "é" * 12]).long()
    assert short.tolist() == [PAD] * 14 + [97, 98]
    assert long.tolist() == [120] * 15 + [121]
    assert odd.tolist() == list(("é" * 8).encode())


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("", "0 characters"),
        ({"text": None}, "NoneType"),
        ({"text": 3}, "int"),
        ({"code": "x"}, "text"),
        ("x" * 100_001, "100,001 characters"),
        ("\ud800", "half of a character pair"),
    ],
)
def test_what_is_no_text_is_refused_by_row_with_a_remedy(row: object, said: str) -> None:
    with pytest.raises(InvalidRow, match=said) as caught:
        SMALL.encode(["fine", row])
    assert caught.value.fields["row"] == 1
    assert caught.value.remedy


def test_a_label_is_the_text_that_came_after_or_its_first_byte() -> None:
    assert SMALL.targets(["return", "é", 10, 10.0]).tolist() == [114, 195, 10, 10]
    assert SMALL.truths(SMALL.targets(["r", "\n"])) == [114, 10]
    for label in ("", None, -1, 256, 1.5, True, ["x"], "\ud800"):
        with pytest.raises(InvalidLabel, match="row 1"):
            SMALL.targets(["x", label])


def test_no_position_sees_what_comes_after_it() -> None:
    model, rows = built(), SMALL.encode(["abcdefghijklmnop", "abcdefghXXXXXXXX"])
    with torch.no_grad():
        one, other = model(rows)
    assert torch.equal(one[:8, :256], other[:8, :256])
    assert not torch.equal(one[8, :256], other[8, :256])


def test_what_follows_is_the_same_as_if_each_byte_were_read_anew() -> None:
    model, text = built(seed=1), SMALL.encode(["import json\nprin"])
    with torch.no_grad():
        _, found, chances = model.go_on(text, 6)
        tokens = text
        for byte, chance in zip(found[0], chances[0], strict=True):
            wanted, place = torch.softmax(model(tokens)[0, -1, :256], 0).max(0)
            assert int(place) == int(byte)
            assert float(wanted) == pytest.approx(float(chance))
            tokens = torch.cat([tokens, byte[None, None].float()], 1)


def test_the_loss_of_a_training_is_that_of_every_next_byte_and_of_none_before_the_first() -> None:
    model, rows = built(), SMALL.encode(["ab"])
    with torch.no_grad():
        outputs = model(rows)
    said = functional.log_softmax(outputs[0, 13:, :256], 1)
    wanted = -(said[0, ord("a")] + said[1, ord("b")] + said[2, ord("c")]) / 3
    assert torch.allclose(next_byte_loss(outputs, SMALL.targets(["c"])), wanted)


def test_a_row_is_scored_by_the_bytes_that_were_foretold_and_needs_so_many_bits() -> None:
    model, rows = built(), SMALL.encode(["import json, sys", "ab"])
    outputs = SMALL.predict(model, rows)
    assert outputs.shape == (2, 3 + 2 * 4)
    with torch.no_grad():
        logits = model(rows)[0, 7:-1, :256]
    truth = rows[0, 8:].long()
    right = int((logits.argmax(1) == truth).sum())
    bits = float(functional.cross_entropy(logits, truth)) / math.log(2)
    assert outputs[0, :2].tolist() == [right, 8]
    assert outputs[0, 2] == pytest.approx(bits, rel=1e-5)
    assert outputs[1, 1] == 2  # of a short text the bytes that there are
    first = [int(byte) for byte in outputs[:, 3]]
    hit = SMALL.score(outputs, first)
    miss = SMALL.score(outputs, [(byte + 1) % 256 for byte in first])
    assert hit[0] == pytest.approx(1 - (right + 1) / 9)
    assert miss[0] == pytest.approx(1 - right / 9)
    total = (8 * outputs[0, 2] + 2 * outputs[1, 2]) / 10
    assert SMALL.measures(outputs)["bits_per_byte"] == pytest.approx(total)


def test_an_answer_is_text_and_how_sure_it_is() -> None:
    outputs = np.array([[5, 8, 2.5, 104, 0.75, 105, 0.5, 195, 0.5, 169, 0.5]], dtype=np.float32)
    (answer,) = SMALL.answers(outputs)
    assert answer == {"prediction": "hié", "confidence": 0.75, "bits_per_byte": 2.5}
    assert [each.name for each in SMALL.outputs] == list(answer)


def test_the_monitors_see_the_kinds_of_bytes() -> None:
    (seen,) = SMALL.observe(SMALL.encode(["Ab_1 (é)\n$"]))
    found = dict(zip([each.name for each in SMALL.features], seen.tolist(), strict=True))
    assert found["bytes"] == 11
    one = pytest.approx(1 / 11)
    for kind in ("upper", "lower", "underscores", "digits", "spaces", "lines"):
        assert found[kind] == one, kind
    assert found["brackets"] == found["not_ascii"] == pytest.approx(2 / 11)


def test_its_configuration_makes_an_equal_learner_and_another_is_refused() -> None:
    assert Code.from_config(SMALL.config()) == SMALL
    for change in ({"width": 17}, {"context": 0}, {"layers": True}, {"horizon": "4"}, {"more": 1}):
        with pytest.raises(ArtifactError):
            Code.from_config({**SMALL.config(), **change})
    with pytest.raises(SettingsError, match="multiple of 16"):
        Code.from_data(["x"], ["y"], {"width": 20})
    with pytest.raises(DataError, match="label of row 0"):
        Code.from_data(["x"], [""], {})
    with pytest.raises(DataError, match="0 characters"):
        Code.from_data([""], ["y"], {})


def test_the_source_of_a_package_is_read_window_by_window() -> None:
    data = read_dataset("builtin:stdlib/json", "")
    text = "".join(row["text"] for row in data.rows[:5])
    assert text == Path(json.__file__).read_text()[:320]
    assert data.labels[0] == data.rows[1]["text"][:8]
    assert data.digest == read_dataset("builtin:stdlib", "").digest
    for source in ("builtin:stdlib/no_such", "builtin:stdlib/../etc", "builtin:stdlib/json,"):
        with pytest.raises(DataError, match="no source of a package"):
            read_dataset(source, "")


def test_it_learns_saves_and_goes_on_with_replay_as_any_learner(tmp_path: Path) -> None:
    learner = Code(context=16, width=32, layers=1, horizon=4)
    taught, rows = songs(learner, CHORUS)
    other, _ = songs(learner, ["let z = 4;;;\n", "while true {}\n"])
    model = learner.build(torch.Generator().manual_seed(0))
    budget = Budget(epochs=6, learning_rate=1e-2)
    learner.fit(model, taught, None, budget, torch.Generator().manual_seed(0))

    def bits(module: nn.Module, of: Examples) -> float:
        return learner.measures(evaluate(learner, module, of.x, of.y).outputs)["bits_per_byte"]

    assert evaluate(learner, model, taught.x, taught.y).accuracy > 0.8
    save_model(tmp_path / "model", "models.code:Code", learner, model)
    loaded = load_model(tmp_path / "model", allowed=["models.code:Code"])
    said = learner.answers(learner.predict(model, learner.encode(rows[:3])))
    assert loaded.learner.answers(loaded.learner.predict(loaded.model, taught.x[:3])) == said

    memory = Memory(100, 0)
    memory.add(taught)
    assert len(memory) == 100  # text has no classes: any rows
    kept, _ = go_on(learner, model, other, memory, "replay", budget, 0)
    lost, _ = go_on(learner, model, other, memory, "fine-tune", budget, 0)
    assert bits(model, other) > 4
    assert max(bits(kept, other), bits(lost, other)) < 1
    assert bits(kept, taught) < bits(model, taught) + 0.1
    assert bits(lost, taught) > bits(model, taught) + 1
