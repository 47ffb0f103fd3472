"""A frozen sentence encoder: what it says, what it is checked by, and heads that learn on it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from homeostat.errors import ArtifactError, SettingsError, WrongEncoder
from models import (
    Budget,
    Examples,
    Memory,
    Prototypes,
    Row,
    Text,
    evaluate,
    load_model,
    retrain,
    save_model,
)
from models.sentences import load_encoder

pytestmark = pytest.mark.usefixtures("one_thread")

WORDS = """[PAD] [UNK] [CLS] [SEP] [MASK] the a my card bank account is lost weather rain tomorrow
will it ##ed ##ing ##s walk play music song ? ! , . ' um ##lau ##t un ##believ ##able 我 很 12 ##3 e
##uro"""
PIECES = WORDS.split()
WIDE, INNER, LAYERS, PLACES = 16, 32, 2, 32
TEXTS = ["My card is lost!", "Will it rain tomorrow?", "unbelievable, ümlaut 123 euros"]
SAID: dict[str, list[Row]] = {
    "bank": ["my card is lost", "the account, my bank", "a lost card", "my bank account"],
    "weather": ["will it rain", "the weather tomorrow", "rain tomorrow?", "will the weather walk"],
    "music": ["play music", "a song", "play the song", "the music is played"],
}
TEXT = "models.text:Text"


def draw(rng: np.random.Generator, *shape: int, around: float = 0.0) -> torch.Tensor:
    return torch.from_numpy(rng.normal(around, 0.3, shape).astype(np.float32))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers as `transformers` writes one, of drawn weights."""
    folder, rng = tmp_path_factory.mktemp("encoder"), np.random.default_rng(7)
    weights: dict[str, torch.Tensor] = {}

    def norm(at: str) -> None:
        weights[f"{at}LayerNorm.weight"] = draw(rng, WIDE, around=1.0)
        weights[f"{at}LayerNorm.bias"] = draw(rng, WIDE)

    for name, rows in (("word", len(PIECES)), ("position", PLACES), ("token_type", 2)):
        weights[f"embeddings.{name}_embeddings.weight"] = draw(rng, rows, WIDE)
    norm("embeddings.")
    for number in range(LAYERS):
        at = f"encoder.layer.{number}."
        for name in ("query", "key", "value"):
            weights[f"{at}attention.self.{name}.weight"] = draw(rng, WIDE, WIDE)
            weights[f"{at}attention.self.{name}.bias"] = draw(rng, WIDE)
        for name, to, since in (
            ("attention.output", WIDE, WIDE),
            ("intermediate", INNER, WIDE),
            ("output", WIDE, INNER),
        ):
            weights[f"{at}{name}.dense.weight"] = draw(rng, to, since)
            weights[f"{at}{name}.dense.bias"] = draw(rng, to)
        norm(f"{at}attention.output.")
        norm(f"{at}output.")
    config = {
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": WIDE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "intermediate_size": INNER,
        "vocab_size": len(PIECES),
        "max_position_embeddings": PLACES,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    written = safetensors.torch.save(weights, {"format": "pt"})
    (folder / "model.safetensors").write_bytes(written)
    return folder


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    """The same files in a folder that a test may spoil."""
    folder = tmp_path / "encoder"
    folder.mkdir()
    for path in tiny.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def learner(folder: Path, **options: object) -> Text:
    rows = [row for texts in SAID.values() for row in texts]
    labels = [label for label, texts in SAID.items() for _ in texts]
    return Text.from_data(rows, labels, {"encoder": str(folder), "hidden": 16, **options})


def examples(text: Text | Prototypes, part: slice = slice(None)) -> Examples:
    rows = [row for texts in SAID.values() for row in texts[part]]
    labels = [name for name, texts in SAID.items() for _ in texts[part]]
    return Examples(text.encode(rows), text.targets(labels))


def test_texts_have_the_vectors_that_transformers_gives_them(tiny: Path) -> None:
    """Its BertTokenizer and BertModel (5.24), the mean of all pieces, of the very same files."""
    encoder = load_encoder(str(tiny))
    assert [encoder.tokenizer.read(text, 32) for text in TEXTS] == READ
    vectors = encoder.vectors(TEXTS)
    assert vectors.numpy()[:, :4] == pytest.approx(np.array(VECTORS), abs=2e-6)
    assert vectors.norm(dim=1).numpy() == pytest.approx(1.0, abs=1e-6)


def test_words_are_cut_as_bert_cuts_them(tiny: Path) -> None:
    """Unknown ones, ideographs, controls that join, spaces of all kinds, and texts too long."""
    read = load_encoder(str(tiny)).tokenizer.read
    assert read("xyz 我很 walking WALKED", 32) == [2, 1, 36, 37, 21, 19, 21, 18, 3]
    assert read("the  a\tmusic\u200b played's ...", 32) == [
        2,
        5,
        6,
        23,
        22,
        18,
        29,
        1,
        28,
        28,
        28,
        3,
    ]
    assert read("card " * 50, 6) == [2, 8, 8, 8, 8, 3]
    assert read("walk" * 26, 32) == [2, 1, 3]


def test_a_text_is_encoded_alike_alone_and_among_others(tiny: Path) -> None:
    text = learner(tiny)
    together = text.encode([*TEXTS, *SAID["bank"]])
    assert together.shape == (7, 3 + WIDE)
    for place, said in enumerate([*TEXTS, *SAID["bank"]]):
        assert torch.allclose(text.encode([said])[0], together[place], atol=1e-6)
    assert text.observe(together).shape == (7, len(text.features))


def test_a_head_learns_over_it_and_a_retrain_goes_on(tiny: Path) -> None:
    text, generator = learner(tiny, hidden=64), torch.Generator().manual_seed(0)
    first, later, whole = (examples(text, slice(*ends)) for ends in ((0, 2), (2, 4), (0, 4)))
    model = text.build(generator)
    budget = Budget(epochs=300, learning_rate=1e-2)
    text.fit(model, first, None, budget, generator)
    before = evaluate(text, model, whole.x, whole.y).accuracy
    memory = Memory(6, 0)
    memory.add(first)
    candidate, _ = retrain(text, model, later, memory, "replay", budget, 0)
    assert before < evaluate(text, candidate, whole.x, whole.y).accuracy == 1.0


def test_prototypes_stand_over_it(tiny: Path) -> None:
    head = Prototypes(learner(tiny), 64)
    whole, generator = examples(head), torch.Generator().manual_seed(0)
    model = head.build(generator)
    head.fit(model, whole, None, Budget(), generator)
    assert evaluate(head, model, whole.x, whole.y).accuracy >= 0.9
    assert Prototypes.from_config(head.config()) == head


def test_a_version_names_its_encoder_and_is_loaded_with_it_alone(
    copy: Path, tmp_path: Path
) -> None:
    text = learner(copy)
    model = text.build(torch.Generator().manual_seed(0))
    folder = tmp_path / "version"
    digest = save_model(folder, TEXT, text, model)
    told = json.loads((folder / "learner.json").read_text())["config"]
    assert told["encoder_digest"] == load_encoder(str(copy)).digest
    assert load_model(folder, allowed={TEXT}, digest=digest).learner == text
    load_encoder.cache_clear()  # as a process that starts
    vocabulary = copy / "vocab.txt"
    vocabulary.write_text(vocabulary.read_text().replace("rain", "snow"))
    with pytest.raises(WrongEncoder, match="the version was trained with"):
        load_model(folder, allowed={TEXT}, digest=digest)
    (copy / "config.json").unlink()
    with pytest.raises(WrongEncoder, match=r"config\.json cannot be read: No such file"):
        load_model(folder, allowed={TEXT}, digest=digest)


def test_hashed_texts_are_described_as_ever() -> None:
    """Versions of earlier releases are read, and no digest changes."""
    hashed = Text(("a", "b"))
    assert not {"encoder", "encoder_digest"} & set(hashed.config())
    assert Text.from_config(hashed.config()) == hashed
    with pytest.raises(ArtifactError, match="it has the fields"):
        Text.from_config({**hashed.config(), "encoder": "/somewhere"})


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("model.safetensors", b"\x80\x04pickle", "is not a safetensors file"),
        ("config.json", b'{"model_type": "roberta"}', "model_type is roberta"),
        ("vocab.txt", b"a\nb\n", r"no \[CLS\], \[SEP\], \[UNK\]"),
        ("1_Pooling", b'{"pooling_mode_max_tokens": true}', "pools otherwise"),
        ("modules.json", b'[{"type": "sentence_transformers.models.Dense"}]', "models.Dense"),
    ],
)
def test_what_is_not_read_is_refused_by_name(
    copy: Path, name: str, content: bytes, told: str
) -> None:
    path = copy / name
    if name == "1_Pooling":
        path.mkdir()
        path /= "config.json"
    path.write_bytes(content)
    with pytest.raises(WrongEncoder, match=told):
        learner(copy)


def test_a_pickle_beside_is_not_looked_at_and_one_alone_is_no_encoder(copy: Path) -> None:
    digest = load_encoder(str(copy)).digest
    (copy / "pytorch_model.bin").write_bytes(b"\x80\x04never read")
    load_encoder.cache_clear()
    assert load_encoder(str(copy)).digest == digest
    (copy / "model.safetensors").unlink()
    load_encoder.cache_clear()
    with pytest.raises(WrongEncoder, match=r"model\.safetensors cannot be read"):
        load_encoder(str(copy))


def test_the_first_piece_may_stand_for_the_text(copy: Path) -> None:
    mean = load_encoder(str(copy)).vectors(TEXTS)
    (copy / "1_Pooling").mkdir()
    (copy / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    load_encoder.cache_clear()
    assert not torch.allclose(load_encoder(str(copy)).vectors(TEXTS), mean, atol=0.01)


def test_the_vocabulary_may_be_in_the_tokenizers_own_file(copy: Path) -> None:
    before = load_encoder(str(copy)).vectors(TEXTS)
    numbers = {piece: number for number, piece in enumerate(PIECES)}
    told = {"model": {"type": "WordPiece", "vocab": numbers}}
    (copy / "tokenizer.json").write_text(json.dumps(told))
    (copy / "vocab.txt").unlink()
    load_encoder.cache_clear()
    assert torch.equal(load_encoder(str(copy)).vectors(TEXTS), before)


def test_a_folder_is_named_from_the_root() -> None:
    with pytest.raises(SettingsError, match="'encoder'"):
        learner(Path("encoder"))


READ = [
    [2, 7, 8, 11, 12, 26, 3],
    [2, 16, 17, 14, 15, 25, 3],
    [2, 33, 34, 35, 27, 30, 31, 32, 38, 39, 40, 41, 20, 3],
]
VECTORS = [
    [0.2974271, 0.0940193, 0.0131273, -0.1596861],
    [0.2919053, 0.1037402, -0.0225609, -0.1272445],
    [0.219367, 0.1199203, -0.1104541, -0.2044571],
]
