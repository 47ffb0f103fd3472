"""Answer a batch of requests from one split: encode once, one forward per version.

Pure of HTTP, files and threads. One bad request never spoils its neighbours: when a batch
fails, its requests are tried one by one and only the culprits get their error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from homeostat.errors import HomeostatError, LearnerError
from models.learner import Row
from serving.fleet import Split
from serving.ids import new_ids, share_of_entity, share_of_id
from serving.runtime import Loaded, Outputs

SAMPLE_ROWS = 16


@dataclass(slots=True)
class Request:
    """One request's rows as parsed, and whom they are about (one name for all, or one each)."""

    rows: Sequence[Row]
    entity: str | list[str] | None = None


@dataclass(slots=True)
class Answer:
    """What one request gets.

    Args:
        loaded: The version that answers.
        arm: Its role: `champion` or `challenger`.
        ids: A prediction id per row.
        outputs: (n, C) of the answering version.
        predictions: Each row's answer as JSON values, with `id` and `version`.
        shadows: Outputs (n, C) by version of those that answered unseen.
    """

    loaded: Loaded
    arm: str
    ids: list[str]
    outputs: Outputs
    predictions: list[dict[str, Any]]
    shadows: dict[int, Outputs]


@dataclass(slots=True)
class Answered:
    """A whole batch, done.

    Args:
        results: An answer or an error for each request, in order.
        observed: Encoded rows (N, D) that the champion has outputs for, for the monitors.
        outputs: (N, C) of the champion on them.
        failures: Failing requests of each version.
        champion_alone_failed: Requests that the champion failed and the standby did not.
        sample: Some rows as they came, to try a new version on.
    """

    results: list[Answer | HomeostatError]
    observed: Tensor | None = None
    outputs: Outputs | None = None
    failures: dict[int, int] = field(default_factory=dict)
    champion_alone_failed: int = 0
    sample: Sequence[Row] = ()

    def rows_of(self, version: int) -> int:
        """Rows that a version answered for callers."""
        return sum(
            len(one.ids)
            for one in self.results
            if isinstance(one, Answer) and one.loaded.version == version
        )


def answer(split: Split, requests: Sequence[Request]) -> Answered:
    """Answer requests from one split."""
    return _Batch(split, requests).run()


@dataclass(slots=True)
class _Encoded:
    """Requests in one encoding: all good rows as one tensor, each request's span or error."""

    x: Tensor
    spans: list[tuple[int, int] | HomeostatError]

    def rows(self, index: int) -> Tensor | None:
        span = self.spans[index]
        return None if isinstance(span, HomeostatError) else self.x[span[0] : span[1]]


class _Batch:
    def __init__(self, split: Split, requests: Sequence[Request]) -> None:
        self.split = split
        self.requests = requests
        self.ids = _ids(requests)
        self.encodings: dict[str, _Encoded] = {}

    def run(self) -> Answered:
        split = self.split
        everyone = list(range(len(self.requests)))
        canary = split.phase == "canary" and split.challenger is not None
        arms = [self._arm(index) if canary else split.champion for index in everyone]
        # In every phase the champion answers everything, seen or unseen: so that each labelled
        # row can be compared.
        outputs = {split.champion.version: self._outputs(split.champion, everyone)}
        if split.challenger is not None:
            outputs[split.challenger.version] = self._outputs(split.challenger, everyone)
        if split.standby is not None:
            outputs[split.standby.version] = self._outputs(split.standby, self._sampled())
        results = [self._result(index, arms[index], outputs) for index in everyone]
        done = Answered(results)
        for version, given in outputs.items():
            failed = sum(isinstance(one, LearnerError) for one in given.values())
            if failed:
                done.failures[version] = failed
        done.champion_alone_failed = self._proven_failures(outputs)
        self._watched(done, outputs[split.champion.version])
        return done

    def _arm(self, index: int) -> Loaded:
        split, request = self.split, self.requests[index]
        assert split.challenger is not None
        entity = request.entity[0] if isinstance(request.entity, list) else request.entity
        if entity is None:
            place = share_of_id(self.ids[index][0])
        else:  # the same entity meets the same arm for as long as this challenger is on trial
            place = share_of_entity(entity, f"{split.model}:{split.challenger.version}")
        return split.challenger if place < split.canary_share else split.champion

    def _sampled(self) -> list[int]:
        share = self.split.standby_share
        return [
            index
            for index, ids in enumerate(self.ids)
            if share >= 1.0 or share_of_id(ids[0]) < share
        ]

    def _encoded(self, loaded: Loaded) -> _Encoded:
        encoded = self.encodings.get(loaded.encoding)
        if encoded is None:
            encoded = self.encodings[loaded.encoding] = _encode(loaded, self.requests)
        return encoded

    def _outputs(
        self, loaded: Loaded, indices: Sequence[int]
    ) -> dict[int, Outputs | HomeostatError]:
        """Outputs or error of one version for each of the requests."""
        encoded = self._encoded(loaded)
        given: dict[int, Outputs | HomeostatError] = {}
        asked: list[int] = []
        for index in indices:
            span = encoded.spans[index]
            if isinstance(span, HomeostatError):
                given[index] = span
            else:
                asked.append(index)
        if not asked:
            return given
        parts = [part for index in asked if (part := encoded.rows(index)) is not None]
        whole = sum(len(part) for part in parts) == len(encoded.x)
        try:
            outputs = loaded.predict(encoded.x if whole else torch.cat(parts))
        except HomeostatError as error:
            for index, part in zip(asked, parts, strict=True):
                given[index] = error if len(asked) == 1 else _predict_one(loaded, part)
            return given
        finite = bool(np.isfinite(outputs).all())
        start = 0
        for index, part in zip(asked, parts, strict=True):
            own = outputs[start : start + len(part)]
            start += len(part)
            given[index] = own if finite or np.isfinite(own).all() else loaded.not_finite()
        return given

    def _result(
        self,
        index: int,
        loaded: Loaded,
        outputs: dict[int, dict[int, Outputs | HomeostatError]],
    ) -> Answer | HomeostatError:
        own = outputs[loaded.version][index]
        if isinstance(own, HomeostatError):
            return own
        try:
            answers = loaded.learner.answers(own)
        except HomeostatError as error:
            return error
        except Exception as error:  # noqa: BLE001 - a learner's code may raise anything
            return LearnerError(
                f"The learner of {loaded.model}:{loaded.version} failed in answers: {error}",
                model=loaded.model,
                version=loaded.version,
            )
        ids = self.ids[index]
        predictions = [
            {"id": one, **said, "version": loaded.version}
            for one, said in zip(ids, answers, strict=True)
        ]
        shadows = {
            version: unseen
            for version, given in outputs.items()
            if version != loaded.version
            and (unseen := given.get(index)) is not None
            and not isinstance(unseen, HomeostatError)
        }
        arm = "champion" if loaded is self.split.champion else "challenger"
        return Answer(loaded, arm, ids, own, predictions, shadows)

    def _proven_failures(self, outputs: dict[int, dict[int, Outputs | HomeostatError]]) -> int:
        """Requests that the champion fails and the standby can do: going back would help."""
        standby = self.split.standby
        champion = outputs[self.split.champion.version]
        failed = [index for index, one in champion.items() if isinstance(one, LearnerError)]
        if standby is None or not failed:
            return 0
        given = outputs[standby.version]
        given |= self._outputs(standby, [index for index in failed if index not in given])
        return sum(not isinstance(given[index], HomeostatError) for index in failed)

    def _watched(self, done: Answered, champion: dict[int, Outputs | HomeostatError]) -> None:
        encoded = self._encoded(self.split.champion)
        good = [index for index, one in champion.items() if not isinstance(one, HomeostatError)]
        if not good:
            return
        done.sample = self.requests[good[0]].rows[:SAMPLE_ROWS]
        outputs = [one for index in good if not isinstance(one := champion[index], HomeostatError)]
        rows = [part for index in good if (part := encoded.rows(index)) is not None]
        whole = sum(map(len, rows)) == len(encoded.x)
        done.observed = encoded.x if whole else torch.cat(rows)
        done.outputs = outputs[0] if len(outputs) == 1 else np.concatenate(outputs)


def _ids(requests: Sequence[Request]) -> list[list[str]]:
    fresh = new_ids(sum(len(request.rows) for request in requests))
    ids, start = [], 0
    for request in requests:
        ids.append(fresh[start : start + len(request.rows)])
        start += len(request.rows)
    return ids


def _encode(loaded: Loaded, requests: Sequence[Request]) -> _Encoded:
    rows = [row for request in requests for row in request.rows]
    spans: list[tuple[int, int] | HomeostatError] = []
    start = 0
    try:
        x = loaded.encode(rows)
    except HomeostatError as error:
        if len(requests) == 1:
            return _Encoded(torch.zeros(0, 0), [error])
        parts = []
        for request in requests:  # find whose row it was; the others are none the worse
            try:
                part = loaded.encode(request.rows)
            except HomeostatError as own:
                spans.append(own)
                continue
            parts.append(part)
            spans.append((start, start + len(part)))
            start += len(part)
        return _Encoded(torch.cat(parts) if parts else torch.zeros(0, 0), spans)
    for request in requests:
        spans.append((start, start + len(request.rows)))
        start += len(request.rows)
    return _Encoded(x, spans)


def _predict_one(loaded: Loaded, part: Tensor) -> Outputs | HomeostatError:
    try:
        outputs = loaded.predict(part)
    except HomeostatError as error:
        return error
    return outputs if np.isfinite(outputs).all() else loaded.not_finite()
