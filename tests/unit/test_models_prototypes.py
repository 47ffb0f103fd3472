"""A head of sums: order and parts do not matter, classes are taken up, and it is stored whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from homeostat.errors import ArtifactError, DataError, SettingsError
from models import (
    Budget,
    Digits,
    Examples,
    Prototypes,
    Table,
    Text,
    evaluate,
    load_model,
    read_dataset,
    retrain,
    save_model,
)
from models.random_filters import RandomFilters
from models.ridge_head import RidgeHead, solved

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = Prototypes(Digits(), 64)


def digits(*classes: int) -> Examples:
    data = read_dataset("builtin:digits", "")
    kept = [at for at, label in enumerate(data.labels) if label in classes]
    rows = [data.rows[at] for at in kept]
    return Examples(SMALL.encode(rows), SMALL.targets([data.labels[at] for at in kept]))


def drawn() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_weights_are_those_of_a_ridge_regression_on_all_rows() -> None:
    generator = drawn()
    z = torch.randn(50, 7, generator=generator).double()
    hot = nn.functional.one_hot(torch.arange(50) % 3, 3).double()
    found = solved(z.T @ z, hot.T @ z, 0.5)
    penalty = 0.5 * float((z.T @ z).diagonal().mean())
    # The gradient of |z W' - hot|^2 + penalty |W|^2 is nought there.
    assert torch.allclose((z @ found.T - hot).T @ z + penalty * found, torch.zeros(3, 7).double())


def test_rows_in_parts_and_in_any_order_give_what_all_at_once_give() -> None:
    data = digits(0, 1, 2)
    parts = [torch.arange(len(data))[data.y == label] for label in (2, 0, 1)]
    heads = []
    for chunks in ([torch.arange(len(data))], parts):
        head = RidgeHead(64, 32, 10)
        head.draw(drawn())
        for rows in chunks:
            head.learn(data.x[rows] / 16, data.y[rows], drawn())
        heads.append(head)
    one, other = heads
    assert torch.allclose(one.gram, other.gram, rtol=1e-5)
    assert torch.allclose(one.sums, other.sums, rtol=1e-5)
    assert float(one.rows) == float(other.rows) == len(data)


def test_two_digits_a_time_are_told_apart_as_well_as_all_at_once() -> None:
    learner = Prototypes(Digits(), 300)
    pairs = [digits(2 * task, 2 * task + 1) for task in range(5)]
    taught = [Examples(rows.x[::2], rows.y[::2]) for rows in pairs]
    model = learner.build(drawn())
    learner.fit(model, taught[0], None, Budget(), drawn())
    for rows in taught[1:]:
        model, _ = retrain(learner, model, rows, None, "prototypes", Budget(), seed=0)
    found = [evaluate(learner, model, rows.x[1::2], rows.y[1::2]).accuracy for rows in pairs]
    assert min(found) > 0.9


def test_its_probabilities_say_how_often_it_is_right() -> None:
    data = digits(*range(10))
    learner = Prototypes(Digits(), 300)
    model = learner.build(drawn())
    learner.fit(model, Examples(data.x[:900], data.y[:900]), None, Budget(), drawn())
    found = evaluate(learner, model, data.x[900:], data.y[900:])
    assert abs(float(learner.confidence(found.outputs).mean()) - found.accuracy) < 0.1


def test_a_class_never_seen_is_taken_up_and_the_others_stay() -> None:
    data = digits(0, 1)
    learner = Prototypes(Digits(classes=(0, 1)), 64)
    model = learner.build(drawn())
    learner.fit(model, data, None, Budget(), drawn())
    grown = learner.grown([0, 1, 7])
    assert grown.classes == (0, 1, 7)
    assert grown.extends(learner)
    wider = learner.grow(model, grown, drawn())
    before, after = evaluate(learner, model, data.x, data.y), evaluate(grown, wider, data.x, data.y)
    assert after.accuracy == before.accuracy
    sevens = digits(7)
    new = Examples(sevens.x, torch.full((len(sevens),), 2))
    wider, _ = retrain(grown, wider, new, None, "prototypes", Budget(), seed=0)
    assert evaluate(grown, wider, new.x, new.y).accuracy > 0.9
    assert evaluate(grown, wider, data.x, data.y).accuracy > 0.97


def test_a_stored_version_answers_bit_for_bit_and_names_no_foreign_code(tmp_path: Path) -> None:
    data = digits(0, 1)
    model = SMALL.build(drawn())
    SMALL.fit(model, data, None, Budget(), drawn())
    save_model(tmp_path, "models.prototypes:Prototypes", SMALL, model, {})
    loaded = load_model(tmp_path, allowed={"models.prototypes:Prototypes"})
    assert loaded.learner == SMALL
    assert torch.equal(loaded.model(data.x), model(data.x))
    for of in ("os:system", "prototypes", None):
        with pytest.raises(ArtifactError, match="its encoder is"):
            Prototypes.from_config({**SMALL.config(), "of": of})


def test_texts_and_tables_are_represented_as_wide_as_is_said() -> None:
    text = Text(("a", "b"), buckets=32)
    assert text.represent(text.encode(["one", "two words"])).shape == (2, text.represented)
    rows = [{"size": 1.0, "kind": "x"}, {"size": None, "kind": None}, {"size": 3.0, "kind": "y"}]
    table = Table.from_data(rows, ["a", "b", "a"], {})
    found = table.represent(table.encode(rows))
    assert found.shape == (3, table.represented)
    assert bool(found.isfinite().all())
    assert torch.equal(found.sum(dim=1) - found[:, :1].sum(dim=1), torch.ones(3))


def test_what_it_cannot_do_is_refused_with_what_to_do() -> None:
    rows, values = [{"a": float(n)} for n in range(40)], [n + 0.5 for n in range(40)]
    with pytest.raises(DataError, match="quantities"):
        Prototypes.from_data(rows, values, {"of": "table"})
    with pytest.raises(SettingsError, match="'of' of the learner prototypes is 'tabel'"):
        Prototypes.from_data(rows, values, {"of": "tabel"})
    with pytest.raises(SettingsError, match="not trained by steps"):
        retrain(SMALL, SMALL.build(drawn()), digits(0), None, "distillation", Budget(), seed=0)
    with pytest.raises(SettingsError, match="keeps no prototypes"):
        retrain(Digits(), Digits().build(drawn()), digits(0), None, "prototypes", Budget(), seed=0)


def test_filters_of_an_image_are_stored_with_the_version_and_drawn_once(tmp_path: Path) -> None:
    data = digits(0, 1)
    learner = Prototypes(Digits(), projections=0, filters=4)
    model = learner.build(drawn())
    learner.fit(model, data, None, Budget(), drawn())
    save_model(tmp_path, "models.prototypes:Prototypes", learner, model, {})
    loaded = load_model(tmp_path, allowed={"models.prototypes:Prototypes"})
    assert loaded.learner == learner
    assert torch.equal(loaded.model(data.x), model(data.x))
    assert evaluate(learner, model, data.x, data.y).accuracy > 0.99


def test_a_filter_sees_edges_and_no_even_grey() -> None:
    filters = RandomFilters((12, 12), 8)
    filters.draw(drawn())
    even = filters(torch.full((1, 144), 0.7)).reshape(2, 8, 4, 4)
    assert float(even[:, :, 1:3, 1:3].abs().max()) == 0.0  # within: at the rim there is an edge
    half = torch.zeros(1, 12, 12)
    half[:, :, 6:] = 1.0
    assert float(filters(half).reshape(2, 8, 4, 4)[:, :, 1:3, 1:3].max()) > 0.0


def test_a_version_of_before_there_were_filters_has_none() -> None:
    assert "filters" not in SMALL.config()
    assert Prototypes.from_config(SMALL.config()).filters == 0


@pytest.mark.parametrize(("of", "filters"), [("digits", 257), ("digits", -1), ("table", 8)])
def test_filters_are_for_images_and_not_endless(of: str, filters: int) -> None:
    pictures, table = [[0.0] * 64, [1.0] * 64], [{"a": 1.0}, {"a": 2.0}]
    rows = pictures if of == "digits" else table
    with pytest.raises(SettingsError, match="'filters' of the learner prototypes"):
        Prototypes.from_data(rows, ["x", "y"], {"of": of, "filters": filters})
    config = Prototypes.from_data(rows, ["x", "y"], {"of": of}).config()
    with pytest.raises(ArtifactError, match="its filters are"):
        Prototypes.from_config({**config, "filters": filters})
