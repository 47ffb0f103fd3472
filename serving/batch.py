"""A batch with a trial under way or a bad row in it: one forward per version, errors sorted out.

One bad request never spoils its neighbours: when a batch fails, its requests are tried one by
one and only the culprits get their error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from homeostat.errors import HomeostatError, LearnerError
from serving.answers import PINNED, SAMPLE_ROWS, Answer, Answered, Asked, Reason, Request
from serving.encoding import Encoded, encode
from serving.fleet import Split
from serving.ids import new_ids, share_of_entity, share_of_id
from serving.runtime import Loaded, Outputs

Given = dict[int, "Outputs | HomeostatError"]  # by the place of a request in its batch


class Batch:
    """One batch on its way: every request has its own answer or error.

    Args:
        split: What answers.
        requests: What is asked.
    """

    def __init__(self, split: Split, requests: Sequence[Request]) -> None:
        self.split = split
        self.requests = requests
        self.ids = _ids(requests)
        self.encodings: dict[str, Encoded] = {}
        self.arms = self._arms()

    def run(self) -> Answered:
        """Answer them."""
        split = self.split
        everyone = range(len(self.requests))
        # In every phase the champion answers everything, seen or unseen: so that each labelled
        # row can be compared. The turn of the standby, and of a challenger in shadow, is when the
        # answers are logged: no caller waits for it.
        outputs = {split.champion.version: self._outputs(split.champion, everyone)}
        if split.challenger is not None and split.phase == "canary":
            outputs[split.challenger.version] = self._outputs(split.challenger, everyone)
        for version, indices in self.arms.items():
            if version not in outputs and (loaded := split.find(version)) is not None:
                outputs[version] = self._outputs(loaded, indices)
        done = Answered(self._results(outputs))
        for version, given in outputs.items():
            failed = sum(isinstance(one, LearnerError) for one in given.values())
            if failed:
                done.failures[version] = failed
        done.champion_alone_failed = self._proven_failures(outputs)
        self._watched(done, outputs[split.champion.version])
        done.asked = to_ask(split, done.results, self._encoded(split.champion))
        return done

    def _arms(self) -> dict[int, list[int]]:
        """The requests that each version answers for its caller; none, where it may not."""
        arms: dict[int, list[int]] = {loaded.version: [] for loaded in self.split.answering}
        for index, request in enumerate(self.requests):
            chosen = request.version or self._chosen(index)
            if chosen in arms:
                arms[chosen].append(index)
            elif request.pinned and self.split.find(chosen) is not None:
                arms[chosen] = [index]
        return arms

    def _chosen(self, index: int) -> int:
        """The version whose turn it is."""
        split, challenger = self.split, self.split.challenger
        if split.phase != "canary" or challenger is None:
            return split.champion.version
        entity = self.requests[index].entity
        entity = entity[0] if isinstance(entity, list) else entity
        if entity is None:
            place = share_of_id(self.ids[index][0])
        else:  # the same entity meets the same arm for as long as this challenger is on trial
            place = share_of_entity(entity, f"{split.model}:{challenger.version}")
        return challenger.version if place < split.canary_share else split.champion.version

    def _reason(self, index: int) -> Reason:
        """Why the version answers that does."""
        request = self.requests[index]
        if request.version:
            return "pinned"
        if self.split.phase != "canary" or self.split.challenger is None:
            return "champion"
        return "canary-share" if request.entity is None else "canary-entity"

    def _encoded(self, loaded: Loaded) -> Encoded:
        encoded = self.encodings.get(loaded.encoding)
        if encoded is None:
            encoded = self.encodings[loaded.encoding] = encode(
                loaded, [request.rows for request in self.requests]
            )
        return encoded

    def _outputs(self, loaded: Loaded, indices: Sequence[int]) -> Given:
        """Outputs or error of one version for each of the requests."""
        encoded = self._encoded(loaded)
        given: Given = {}
        asked: list[int] = []
        for index in indices:
            span = encoded.spans[index]
            if isinstance(span, HomeostatError):
                given[index] = span
            else:
                asked.append(index)
        if not asked:
            return given
        try:
            outputs = loaded.predict(encoded.rows(asked))
        except HomeostatError as error:
            for index in asked:
                alone = len(asked) == 1
                given[index] = error if alone else _predict_one(loaded, encoded.rows([index]))
            return given
        finite = bool(np.isfinite(outputs).all())
        start = 0
        for index in asked:
            stop = start + len(self.requests[index].rows)
            own = outputs[start:stop]
            given[index] = own if finite or np.isfinite(own).all() else loaded.not_finite()
            start = stop
        return given

    def _results(self, outputs: dict[int, Given]) -> list[Answer | HomeostatError]:
        results: dict[int, Answer | HomeostatError] = {}
        for version, indices in self.arms.items():
            loaded = self.split.find(version)
            assert loaded is not None
            role = "champion" if loaded is self.split.champion else "challenger"
            said = _say(loaded, {index: outputs[version][index] for index in indices})
            for index, one in said.items():
                if isinstance(one, HomeostatError):
                    results[index] = one
                    continue
                own, answers = one
                ids = self.ids[index]
                predictions = [
                    {"id": name, **answer, "version": version}
                    for name, answer in zip(ids, answers, strict=True)
                ]
                shadows = {
                    other: unseen
                    for other, given in outputs.items()
                    if other != version
                    and (unseen := given.get(index)) is not None
                    and not isinstance(unseen, HomeostatError)
                }
                arm = PINNED if self.requests[index].pinned else role
                results[index] = Answer(
                    loaded, arm, ids, own, predictions, shadows, self._reason(index)
                )
        return [
            results[index] if index in results else self._unanswered(request)
            for index, request in enumerate(self.requests)
        ]

    def _unanswered(self, request: Request) -> HomeostatError:
        """Why a request that names a version gets no answer: the routing moved meanwhile."""
        try:
            self.split.named(request.version)
        except HomeostatError as error:
            return error
        raise AssertionError("a version that answers left a request out")

    def _proven_failures(self, outputs: dict[int, Given]) -> int:
        """Requests that the champion fails and the standby can do: going back would help."""
        standby = self.split.standby
        champion = outputs[self.split.champion.version]
        failed = [index for index, one in champion.items() if isinstance(one, LearnerError)]
        if standby is None or not failed:
            return 0
        given = self._outputs(standby, failed)
        return sum(not isinstance(given[index], HomeostatError) for index in failed)

    def _watched(self, done: Answered, champion: Given) -> None:
        good = {i: one for i, one in champion.items() if not isinstance(one, HomeostatError)}
        if not good:
            return
        indices = sorted(good)
        done.sample = self.requests[indices[0]].rows[:SAMPLE_ROWS]
        done.observed = self._encoded(self.split.champion).rows(indices)
        done.outputs = np.concatenate([good[index] for index in indices])


def _say(
    loaded: Loaded, given: Given
) -> dict[int, tuple[Outputs, list[dict[str, Any]]] | HomeostatError]:
    """A version's outputs in its learner's words, in one call for the whole batch."""
    said: dict[int, tuple[Outputs, list[dict[str, Any]]] | HomeostatError] = {}
    good: dict[int, Outputs] = {}
    for index, one in given.items():
        if isinstance(one, HomeostatError):
            said[index] = one
        else:
            good[index] = one
    if not good:
        return said
    try:
        answers = loaded.learner.answers(np.concatenate(list(good.values())))
    except Exception as error:  # noqa: BLE001 - a learner's code may raise anything
        if len(good) > 1:
            for index, one in good.items():
                said |= _say(loaded, {index: one})
            return said
        failure = LearnerError(
            f"The learner of {loaded.model}:{loaded.version} failed in answers: {error}",
            model=loaded.model,
            version=loaded.version,
        )
        return said | dict.fromkeys(good, failure)
    start = 0
    for index, one in good.items():
        said[index] = (one, answers[start : start + len(one)])
        start += len(one)
    return said


def _ids(requests: Sequence[Request]) -> list[list[str]]:
    fresh = new_ids(sum(len(request.rows) for request in requests))
    ids, start = [], 0
    for request in requests:
        ids.append(fresh[start : start + len(request.rows)])
        start += len(request.rows)
    return ids


def _predict_one(loaded: Loaded, part: Tensor) -> Outputs | HomeostatError:
    try:
        outputs = loaded.predict(part)
    except HomeostatError as error:
        return error
    return outputs if np.isfinite(outputs).all() else loaded.not_finite()


def unseen_of(split: Split) -> list[tuple[Loaded, float]]:
    """The versions that are asked once the answers have left, each with its share of requests."""
    unseen = []
    if split.challenger is not None and split.phase == "shadow":
        unseen.append((split.challenger, 1.0))
    if split.standby is not None:
        unseen.append((split.standby, split.standby_share))
    return unseen


def to_ask(
    split: Split, results: Sequence[Answer | HomeostatError], encoded: Encoded
) -> list[Asked]:
    """What those that answer unseen are to be asked: their share of what was answered.

    Args:
        split: What answered.
        results: Of each request.
        encoded: The requests as the champion encodes them.
    """
    found: list[Asked] = []
    for loaded, share in unseen_of(split):
        asked = [
            index
            for index, result in enumerate(results)
            if isinstance(result, Answer)
            and result.loaded.version != loaded.version  # it was pinned, and has answered
            and (share >= 1.0 or share_of_id(result.ids[0]) < share)
        ]
        if not asked:
            continue
        x = None
        if loaded.encoding == split.champion.encoding and encoded.has(asked):
            same = found and found[0].x is not None and found[0].requests == asked
            x = found[0].x if same else encoded.rows(asked)
        found.append(Asked(loaded, asked, x))
    return found
