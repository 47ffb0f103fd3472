"""Answer a batch of requests from one split: encode once, one forward per version.

Pure of HTTP, files and threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from homeostat.errors import HomeostatError
from serving.answers import RESERVED, SAMPLE_ROWS, Answer, Answered, Asked, Request, Told
from serving.batch import Batch, to_ask, unseen_of
from serving.encoding import encode
from serving.fleet import Split
from serving.ids import new_ids, share_of_id

__all__ = ["Answer", "Answered", "Asked", "Request", "answer"]

_encoder = msgspec.json.Encoder()


def answer(split: Split, requests: Sequence[Request]) -> Answered:
    """Answer requests from one split."""
    champion = split.champion.version  # another is named where the routing moved since
    plain = all(one.version in (0, champion) and not one.pinned for one in requests)
    if split.phase != "canary" and plain:
        done = _answer_numbers(split, requests) or _answer_plainly(split, requests)
        if done is not None:
            return done
    return Batch(split, requests).run()


def _answer_numbers(split: Split, requests: Sequence[Request]) -> Answered | None:
    """`_answer_plainly` where rows are lists of numbers, with no object for each row."""
    loaded, columns = split.champion, split.columns
    if not columns or not all(
        request.numbers and len(request.rows[0]) == columns for request in requests
    ):
        return None
    rows = [row for request in requests for row in request.rows]
    values = np.array(rows, np.float64)
    try:
        x = loaded.encode_array(values)
        outputs = loaded.predict(x)
        said = loaded.learner.answers(outputs)
        lines = _encoder.encode_lines(_free(said))[:-1]
    except Exception:  # noqa: BLE001 - whatever it is, the other way finds whose row it was
        return None
    if len(said) != len(outputs) or not np.isfinite(outputs).all():
        return None
    ids = new_ids(len(outputs))
    done = Answered([], x, outputs, sample=requests[0].rows[:SAMPLE_ROWS])
    asked = [(one, _share_of(share, requests, ids)) for one, share in unseen_of(split)]
    done.told = Told(loaded, ids, values, outputs, lines, asked)
    return done


def _free(said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Answers without the names that are not the learner's to give."""
    if not any("id" in one or "version" in one for one in said):
        return said
    return [{name: one[name] for name in one if name not in RESERVED} for one in said]


def _share_of(share: float, requests: Sequence[Request], ids: Sequence[str]) -> list[int] | None:
    """Places of the rows of so many of the requests; None: all."""
    if share >= 1.0:
        return None
    asked: list[int] = []
    start = 0
    for request in requests:
        stop = start + len(request.rows)
        if share_of_id(ids[start]) < share:
            asked += range(start, stop)
        start = stop
    return asked


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
