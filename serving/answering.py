"""Answer a batch of requests from one split: encode once, one forward per version.

Pure of HTTP, files and threads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from homeostat.errors import HomeostatError
from serving.answers import SAMPLE_ROWS, Answer, Answered, Asked, Request
from serving.batch import Batch, to_ask
from serving.encoding import encode
from serving.fleet import Split
from serving.ids import new_ids

__all__ = ["Answer", "Answered", "Asked", "Request", "answer"]


def answer(split: Split, requests: Sequence[Request]) -> Answered:
    """Answer requests from one split."""
    if split.phase != "canary":
        done = _answer_plainly(split, requests)
        if done is not None:
            return done
    return Batch(split, requests).run()


def _answer_plainly(split: Split, requests: Sequence[Request]) -> Answered | None:
    """The usual case in one go: no canary, and nothing wrong with any row; None: it is not so."""
    loaded = split.champion
    encoded = encode(loaded, [request.rows for request in requests])
    if encoded.good < len(requests):
        return None
    try:
        outputs = loaded.predict(encoded.x)
        answers = loaded.learner.answers(outputs)
    except Exception:  # noqa: BLE001 - whatever it is, the other way finds whose row it was
        return None
    if len(answers) != len(outputs) or not np.isfinite(outputs).all():
        return None
    version = loaded.version
    ids = new_ids(len(outputs))
    said = [
        {"id": name, **given, "version": version} for name, given in zip(ids, answers, strict=True)
    ]
    results: list[Answer | HomeostatError] = []
    for rows in encoded.spans:
        assert isinstance(rows, slice)  # all are good
        results.append(Answer(loaded, "champion", ids[rows], outputs[rows], said[rows], {}))
    done = Answered(results, encoded.x, outputs, sample=requests[0].rows[:SAMPLE_ROWS])
    done.asked = to_ask(split, results, encoded)
    return done
