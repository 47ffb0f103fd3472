"""A frozen sentence encoder in a local folder: texts as vectors of length 1.

Read is a folder as sentence-transformers and transformers write one, of a BERT (MiniLM, BGE, E5 and
GTE in their usual sizes are such): `config.json`, `model.safetensors`, `vocab.txt` (or the same in
`tokenizer.json`), and where they are there `tokenizer_config.json`, `modules.json`,
`sentence_bert_config.json` and `1_Pooling/config.json`. Nothing is downloaded, nothing is unpickled
and no code of the folder is run; other files are not looked at. The digest is the SHA-256 over
those of the files that are there.

Shapes: N texts, T pieces of each, E width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from homeostat.errors import SuspectArtifact, WrongEncoder
from models.bert import Bert, BertConfig
from models.stored import (
    MAX_JSON_BYTES,
    MAX_TENSOR_BYTES,
    canonical,
    parse_object,
    parse_tensors,
    read_bounded,
)
from models.wordpiece import FIRST, LAST, UNKNOWN, WordPiece

CONFIG, WEIGHTS, VOCABULARY = "config.json", "model.safetensors", "vocab.txt"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
MODULES, LENGTH = "modules.json", "sentence_bert_config.json"
POOLING = "1_Pooling/config.json"
FILES = (
    CONFIG,
    WEIGHTS,
    VOCABULARY,
    TOKENIZER,
    TOKENIZER_CONFIG,
    MODULES,
    LENGTH,
    POOLING,
)
_MODULES = ("Transformer", "Pooling", "Normalize")
_AT_ONCE = 64  # texts of one pass


@dataclass(frozen=True, eq=False)
class SentenceEncoder:
    """A BERT with its tokenizer and its pooling.

    Args:
        digest: Of the files that it was read from.
        bert: Gives vectors of pieces.
        tokenizer: Gives the pieces.
        longest: Pieces of a text that are looked at.
        by_first: Whether the first piece's vector stands for the text, and not the mean.
    """

    digest: str
    bert: Bert
    tokenizer: WordPiece
    longest: int
    by_first: bool

    @property
    def width(self) -> int:
        """E."""
        return self.bert.config.hidden_size

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """Vectors (N, E) of length 1.

        Texts of one length go together and none is padded: what a text is does not depend on what
        it came with, but for the last bits.
        """
        found = torch.empty(len(texts), self.width)
        by_length: dict[int, list[tuple[int, list[int]]]] = {}
        for place, text in enumerate(texts):
            pieces = self.tokenizer.read(text, self.longest)
            by_length.setdefault(len(pieces), []).append((place, pieces))
        for group in by_length.values():
            for start in range(0, len(group), _AT_ONCE):
                part = group[start : start + _AT_ONCE]
                said = self.bert(torch.tensor([pieces for _, pieces in part]))
                whole = said[:, 0] if self.by_first else said.mean(dim=1)
                found[torch.tensor([place for place, _ in part])] = functional.normalize(
                    whole, dim=1
                )
        return found


@lru_cache(maxsize=4)
def load_encoder(folder: str, digest: str = "") -> SentenceEncoder:
    """The encoder in a folder; read once in each process.

    Args:
        folder: Where it is.
        digest: What it has to be; empty: whatever is there.

    Raises:
        WrongEncoder: there is none, it is another, or one that is not read.
    """
    try:
        contents = {name: content for name in FILES if (content := _content(Path(folder), name))}
        told = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        found = hashlib.sha256(canonical(told)).hexdigest()
        if digest not in ("", found):
            raise WrongEncoder(
                f"The encoder in {folder} has the digest {found[:12]}, and the version was trained "
                f"with {digest[:12]}.",
                remedy="Put the encoder's files back as they were, or train and register anew.",
                folder=folder,
                digest=found,
            )
        return _encoder(found, contents)
    except (SuspectArtifact, ValueError, RecursionError) as error:
        raise WrongEncoder(
            f"The encoder in {folder} cannot be used: {error}",
            remedy=f"Put a BERT's {CONFIG}, {WEIGHTS} and {VOCABULARY} there, files and no links.",
            folder=folder,
        ) from error


def _content(folder: Path, name: str) -> bytes:
    """A file's content; empty where one that may lack is not there."""
    path = folder / name
    if name not in (CONFIG, WEIGHTS) and not path.exists():
        return b""
    return read_bounded(path, MAX_TENSOR_BYTES if name == WEIGHTS else MAX_JSON_BYTES)


def _encoder(digest: str, contents: Mapping[str, bytes]) -> SentenceEncoder:
    """Raises ValueError, or SuspectArtifact, where a file is not what it should be."""
    config = BertConfig.read(parse_object(contents[CONFIG], CONFIG))
    bert = Bert(config, parse_tensors(contents[WEIGHTS], WEIGHTS, notes=True))
    said = _object(contents, TOKENIZER_CONFIG)
    lowercase = said.get("do_lower_case", True) is True
    plain = said.get("strip_accents")
    numbers = _vocabulary(contents)
    if max(numbers.values()) >= config.vocab_size:
        raise ValueError(f"its vocabulary has {len(numbers)} pieces, its net {config.vocab_size}.")
    tokenizer = WordPiece(numbers, lowercase, lowercase if plain is None else plain is True)
    longest = _object(contents, LENGTH).get("max_seq_length") or config.max_position_embeddings
    if not isinstance(longest, int) or longest < 3:
        raise ValueError(f"max_seq_length is {str(longest)[:40]}.")
    longest = min(longest, config.max_position_embeddings)
    return SentenceEncoder(digest, bert, tokenizer, longest, _by_first(contents))


def _vocabulary(contents: Mapping[str, bytes]) -> dict[str, int]:
    if VOCABULARY in contents:
        pieces = contents[VOCABULARY].decode().split("\n")
        numbers = {piece.rstrip("\r"): place for place, piece in enumerate(pieces) if piece}
    else:
        model = _object(contents, TOKENIZER).get("model")
        given = model.get("vocab") if isinstance(model, dict) else None
        if not isinstance(model, dict) or model.get("type") != "WordPiece":
            raise ValueError(f"there is no {VOCABULARY}, and no WordPiece in {TOKENIZER}.")
        numbers = dict(given) if isinstance(given, dict) else {}
    if lacking := [name for name in (FIRST, LAST, UNKNOWN) if name not in numbers]:
        raise ValueError(f"its vocabulary has no {', '.join(lacking)}.")
    if not all(isinstance(one, int) and one >= 0 for one in numbers.values()):
        raise ValueError("its vocabulary has pieces without a number.")
    return numbers


def _by_first(contents: Mapping[str, bytes]) -> bool:
    """Whether a text is its first piece's vector; otherwise it is the mean of all."""
    for module in _modules(contents.get(MODULES, b"[]")):
        if module.rpartition(".")[2] not in _MODULES:
            raise ValueError(f"it has the module {module[:80]}, which is not read.")
    pooling = _object(contents, POOLING)
    modes = {
        name for name, on in pooling.items() if name.startswith("pooling_mode_") and on is True
    }
    named = pooling.get("pooling_mode")
    if isinstance(named, str):
        modes = {f"pooling_mode_{named.removesuffix('_tokens').removesuffix('_token')}"}
    ours = {
        "pooling_mode_cls_token": True,
        "pooling_mode_cls": True,
        "pooling_mode_mean_tokens": False,
        "pooling_mode_mean": False,
    }
    if not modes:
        return False
    if len(modes) > 1 or (mode := modes.pop()) not in ours:
        raise ValueError("it pools otherwise than by the mean or the first piece.")
    return ours[mode]


def _modules(content: bytes) -> list[str]:
    """The modules that a text passes, by their types."""
    said = json.loads(content)
    if not isinstance(said, list) or not all(isinstance(one, dict) for one in said):
        raise ValueError(f"{MODULES} is no list of modules.")
    return [str(one.get("type")) for one in said]


def _object(contents: Mapping[str, bytes], name: str) -> dict[str, Any]:
    return parse_object(contents[name], name) if name in contents else {}
