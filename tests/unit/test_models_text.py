"""Texts: what is hashed, what is refused and how, what is watched, and what is learnt."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from homeostat.errors import ArtifactError, DataError, InvalidRow, SettingsError
from homeostat.policy import Policy
from homeostat.schema import Named
from models import Budget, Examples, Row, Text, evaluate, load_model, read_dataset, save_model
from models.ngrams import hashed, signs, tokens
from monitoring import InputDetector, Profile

pytestmark = pytest.mark.usefixtures("one_thread")

SAID = {
    "balance": ["how much money do I have", "show my balance", "what is left on my account"],
    "weather": ["will it rain tomorrow", "is it cold outside", "show me the forecast"],
}
ROWS: list[Row] = [{"text": text} for texts in SAID.values() for text in texts]
LABELS = [label for label, texts in SAID.items() for _ in texts]
TEXT = "models.text:Text"
NAME = "homeostat text projections 1"


def text(**options: object) -> Text:
    return Text.from_data(ROWS, LABELS, {"buckets": 256, "hidden": 16, **options})


def vector(said: str, buckets: int = 2048, longest: int = 5) -> NDArray[np.float32]:
    row: NDArray[np.float32] = hashed([tokens(said)], buckets, longest)[0]
    return row


def test_a_text_may_come_as_itself_as_an_object_or_as_a_list() -> None:
    batch = text().encode(["will it rain", {"text": "will it rain"}, ["will it rain"]])
    assert batch.dtype == torch.float32
    assert batch.shape == (3, 3 + 256)
    assert torch.equal(batch[0], batch[1])
    assert torch.equal(batch[0], batch[2])


def test_an_empty_batch_is_a_batch() -> None:
    learner = text()
    batch = learner.encode([])
    assert learner.predict(learner.build(torch.Generator()), batch).shape == (0, 2)
    assert learner.observe(batch).shape == (0, len(learner.features))


def test_a_text_is_encoded_alike_alone_and_among_others() -> None:
    learner = text()
    many = [f"text number {number} of many" for number in range(600)]
    batch = learner.encode(many)
    for at in (0, 255, 256, 599):
        assert torch.equal(batch[at], learner.encode([many[at]])[0])


def test_a_vector_never_changes_between_processes_and_versions() -> None:
    """Stored rows and weights are of these buckets: another hash would make them nonsense."""
    found = hashed([tokens("rain, rain!")], 16, 4)[0]
    length = np.linalg.norm(found)
    assert length == pytest.approx(1.0)
    smallest = np.abs(found[found != 0]).min()
    assert np.rint(found / smallest).astype(int).tolist() == [
        *(2, 1, 0, -2, 1, 0, 0, 0),
        *(0, 0, 3, 0, 0, 0, 2, 0),
    ]


def test_case_and_composition_of_letters_do_not_matter_and_order_of_words_does() -> None:
    assert np.array_equal(vector("CAF\u00c9 Stra\u00dfe"), vector("cafe\u0301 STRASSE"))
    assert not np.array_equal(vector("dog bites man"), vector("man bites dog"))


def test_a_word_is_nearer_to_its_misspelling_than_to_another_word() -> None:
    said = vector("translate")
    assert said @ vector("trasnlate") > 0.2
    assert abs(said @ vector("checkbook")) < 0.15


def test_without_ngrams_a_word_is_one_bucket() -> None:
    assert np.count_nonzero(vector("translate", longest=1)) == 1
    assert np.count_nonzero(vector("translate", longest=5)) > 10


@pytest.mark.parametrize("odd", ["\ud800", "\u0000", "👍", "。", "\u200b", "x" * 9_000])
def test_odd_characters_are_text_too(odd: str) -> None:
    batch = text().encode([odd])
    assert torch.isfinite(batch).all()
    assert torch.linalg.vector_norm(batch[0, 3:]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": ""}, "has an empty text"),
        ({"text": " \n\t"}, "has an empty text"),
        ("", "has an empty text"),
        ({"text": None}, "has no text"),
        ({"text": 5}, "has int where its text should be"),
        ({"text": ["a"]}, "has list where its text should be"),
        ({"text": "x" * 101}, "has 101 characters; the model takes 100"),
        ({"texts": "a"}, "lacks the column 'text'"),
        ({"text": "a", "id": 1}, "has the column 'id'"),
        (["a", "b"], "has 2 values"),
        (5, "is no object"),
        (None, "is no object"),
    ],
)
def test_what_is_no_text_is_refused_by_row_with_a_remedy(row: object, said: str) -> None:
    with pytest.raises(InvalidRow) as caught:
        text(max_characters=100).encode([ROWS[0], row])
    assert said in caught.value.message
    assert caught.value.fields["row"] == 1
    assert caught.value.remedy


def test_the_longest_text_is_taken() -> None:
    assert text(max_characters=100).encode(["x" * 100]).shape == (1, 3 + 256)


def test_a_caller_of_tensors_sends_one_named_text() -> None:
    assert text().inputs == (Named("text", "str"),)


def test_the_text_is_the_column_that_is_left() -> None:
    rows = [{"id": number, "said": row["text"]} for number, row in enumerate(ROWS)]
    learner = Text.from_data(rows, LABELS, {"ignore": ["id"]})
    assert learner.column == "said"
    assert torch.equal(learner.encode([rows[0]]), learner.encode([{"said": rows[0]["said"]}]))
    with pytest.raises(DataError, match="has the columns id, said; a text is one column"):
        Text.from_data(rows, LABELS, {})
    with pytest.raises(DataError, match="has no column 'sayd'"):
        Text.from_data(rows, LABELS, {"column": "sayd", "ignore": ["id"]})
    with pytest.raises(DataError, match="is ignored"):
        Text.from_data(rows, LABELS, {"column": "said", "ignore": ["id", "said"]})


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "has no row"),
        ([{"text": "a"}, {"text": None}], "Row 1 has no text"),
        ([{"text": 1}, {"text": 2}], "Row 0 has int"),
    ],
)
def test_data_that_is_no_text_cannot_be_learnt_from(rows: list[Row], said: str) -> None:
    with pytest.raises(DataError, match=said):
        Text.from_data(rows, ["a", "b"][: len(rows)], {})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bucket": 5}, "Did you mean 'buckets'"),
        ({"buckets": 0}, "The option 'buckets'"),
        ({"buckets": 65_537}, "The option 'buckets'"),
        ({"hidden": True}, "The option 'hidden'"),
        ({"ngram": 17}, "The option 'ngram'"),
        ({"max_characters": "9"}, "The option 'max_characters'"),
        ({"column": 1}, "The option 'column'"),
        ({"column": ""}, "The option 'column'"),
        ({"ignore": "id"}, "The option 'ignore'"),
    ],
)
def test_a_wrong_option_is_refused_by_name(options: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Text.from_data(ROWS, LABELS, options)
    assert said in caught.value.message
    assert caught.value.remedy


def test_its_configuration_makes_an_equal_learner_and_hangs_on_no_word_of_the_data() -> None:
    learner = text(column="text", ngram=4)
    config = json.loads(json.dumps(learner.config()))
    assert Text.from_config(config) == learner
    other = Text.from_data(["something else", "and more"], ["balance", "weather"], {})
    assert other.config() == Text.from_data(ROWS, LABELS, {}).config()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("classes", ["one"]),
        ("column", 5),
        ("ignore", "id"),
        ("buckets", 1 << 40),
        ("hidden", 0),
        ("ngram", None),
        ("max_characters", -1),
        ("more", 1),
    ],
)
def test_a_forged_configuration_is_refused(name: str, value: object) -> None:
    with pytest.raises(ArtifactError, match="learner text"):
        Text.from_config({**text().config(), name: value})


def test_the_monitors_see_figures_and_projections_that_keep_distances() -> None:
    learner = text(buckets=2048)
    assert [feature.name for feature in learner.features][:4] == [
        "characters",
        "tokens",
        "share_not_ascii",
        "projection_1",
    ]
    batch = learner.encode(["will it rain", "wird es regnen, ö?"])
    observed = learner.observe(batch)
    assert observed.shape == (2, len(learner.features))
    assert observed[:, :3] == pytest.approx(np.array([[12, 3, 0], [18, 6, 1 / 18]]))
    assert observed[:, 3:] == pytest.approx(batch[:, 3:].numpy() @ signs(2048, 12, NAME), abs=1e-5)


def test_projections_are_fair_coins_that_depend_on_their_name_alone() -> None:
    drawn = signs(2048, 12, NAME)
    assert set(np.unique(drawn)) == {-1.0, 1.0}
    assert np.abs(drawn.mean(axis=0)).max() < 0.1
    assert np.array_equal(drawn, signs(2048, 12, NAME))
    assert not np.array_equal(drawn, signs(2048, 12, "another"))


def test_the_net_does_not_look_at_what_is_only_watched() -> None:
    learner = text()
    model = learner.build(torch.Generator().manual_seed(0))
    batch = learner.encode(["will it rain"])
    moved = batch.clone()
    moved[:, :3] += 100
    assert np.array_equal(learner.predict(model, batch), learner.predict(model, moved))


NOUNS = {
    "pay": ["invoice", "transfer", "bank", "balance", "salary"],
    "travel": ["flight", "hotel", "passport", "luggage", "train"],
    "cook": ["recipe", "oven", "onions", "calories", "dinner"],
}
FRAMES = ["what about my {}", "please help with the {}", "{} please", "I need a {} and a {}"]


def conversation(rows: int, topics: list[str], seed: int) -> tuple[list[str], list[str]]:
    draw = random.Random(seed)
    labels = [draw.choice(topics) for _ in range(rows)]
    said = [draw.choice(FRAMES).format(*draw.sample(NOUNS[label], 2)) for label in labels]
    return said, labels


def test_a_file_of_texts_is_learnt_saved_and_answers_from_its_artifact(tmp_path: Path) -> None:
    said, labels = conversation(300, ["pay", "travel", "cook"], 0)
    lines = [
        f'{number},"{row}",{label}'
        for number, (row, label) in enumerate(zip(said, labels, strict=True))
    ]
    (tmp_path / "said.csv").write_text("\n".join(["id,utterance,intent", *lines]))
    policy = Policy(
        learner=TEXT,
        data=str(tmp_path / "said.csv"),
        label="intent",
        learner_config={"ignore": ["id"], "buckets": 512, "hidden": 32},
    )
    data = read_dataset(policy.data, policy.label)
    learner = Text.from_data(data.rows, data.labels, policy.learner_config)
    generator = torch.Generator().manual_seed(0)
    model = learner.build(generator)
    taught = Examples(learner.encode(data.rows), learner.targets(data.labels))
    learner.fit(model, taught, None, Budget(epochs=3), generator)

    save_model(tmp_path / "model", TEXT, learner, model, {})
    loaded = load_model(tmp_path / "model", allowed={TEXT}, digest=None)
    asked = [{"utterance": "help, my LUGGAGE"}, {"utterance": "which onions?"}]
    batch = loaded.learner.encode(asked)
    answers = loaded.learner.answers(loaded.learner.predict(loaded.model, batch))
    assert [answer["prediction"] for answer in answers] == ["travel", "cook"]
    fresh, truths = conversation(200, ["pay", "travel", "cook"], 1)
    rows = loaded.learner.encode(fresh)
    assert evaluate(loaded.learner, loaded.model, rows, truths).accuracy > 0.97


def test_a_new_intent_widens_the_head_and_leaves_what_was_learnt() -> None:
    learner = text()
    model = learner.build(torch.Generator().manual_seed(0))
    wider = learner.grown(["pizza", "weather", "pizza"], least=2)
    assert wider.classes == ("balance", "weather", "pizza")
    assert wider.extends(learner)
    batch = learner.encode(ROWS)
    assert torch.equal(batch, wider.encode(ROWS))
    grown = learner.grow(model, wider, torch.Generator().manual_seed(1))
    assert grown(batch).shape == (len(ROWS), 3)
    assert torch.allclose(grown(batch)[:, :2], model(batch))


def test_a_new_topic_is_drift_and_more_of_the_same_is_none() -> None:
    old = ["pay", "travel"]
    learner = Text.from_data(*conversation(50, old, 0), {})
    held, _ = conversation(500, old, 2)
    profile = Profile.from_reference(
        learner.features,
        "classification",
        learner.observe(learner.encode(held)),
        np.zeros(500),
        np.full(500, 0.9),
        np.zeros(500),
    )
    detector = InputDetector(profile, budget=100_000, tolerance=0.1)

    def drifts(rows: int, topics: list[str], seed: int) -> bool:
        seen = learner.observe(learner.encode(conversation(rows, topics, seed)[0]))
        detector.update(seen, np.zeros(rows), np.full(rows, 0.9))
        return detector.drift_detected

    assert not any(drifts(50, old, 100 + seed) for seed in range(40))
    assert any(drifts(20, ["cook"], 500 + seed) for seed in range(10))
    assert any(feature.name.startswith("projection") for feature in detector.guilty(3))
