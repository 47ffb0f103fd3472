"""Which labels a retrain should not learn from before a person has looked at them.

| reason | held back |
|---|---|
| `contested` | labels of predictions of which somebody else said otherwise, later |
| `self-made` | all of a source that repeats the model's own answers |
| `new-source` | all of a source unknown before the change that contradicts others or is alone |

Two sources are compared by Fisher's exact test (1935) on how many of their labels have a loss
above the median of both together (Mood 1954): with 0/1 losses that is how many contradict the
answer. The level is divided by the number of sources that are judged (Bonferroni), so labels that
differ by chance alone are held back in at most one retrain of a hundred, for either reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from monitoring.evidence import Floats

Reason = Literal["contested", "self-made", "new-source"]

LEVEL = 0.01
KNOWN = 20  # labels before the change that make a source known
ESTABLISHED = 100  # labels before the change without which no source is called new
COMPARABLE = 30  # labels of others without which there is nothing to compare with


@dataclass(frozen=True)
class Sourced:
    """A label as it is judged here.

    Args:
        id: Of its prediction.
        source: Who sent it, as they say; may be empty.
        loss: In [0, 1], of the version that answered; None where it is not known.
        contested: Whether another label of the same prediction says otherwise.
    """

    id: str
    source: str
    loss: float | None
    contested: bool = False


@dataclass(frozen=True)
class Suspicion:
    """Why a label is held back: the reason, and in a sentence."""

    reason: Reason
    text: str


def suspicions(
    labels: Sequence[Sourced], before: Mapping[str, int], trusted: frozenset[str] = frozenset()
) -> dict[str, Suspicion]:
    """The labels that are to be looked at first, by the id of their prediction.

    Args:
        labels: Of predictions since the change.
        before: How many labels each source had sent before it, of the newest ones.
        trusted: Sources that a person has let pass; only contested labels of theirs are held.
    """
    found = {
        one.id: Suspicion("contested", "Another label of the same prediction says otherwise.")
        for one in labels
        if one.contested
    }
    rest = [one for one in labels if not one.contested]
    for judge in (_self_made, _new_sources):
        for source, suspicion in judge(rest, before, trusted).items():
            for one in rest:
                if one.source == source:
                    found.setdefault(one.id, suspicion)
        rest = [one for one in rest if one.id not in found]
    return found


def _self_made(
    labels: Sequence[Sourced], before: Mapping[str, int], trusted: frozenset[str]
) -> dict[str, Suspicion]:
    """Sources none of whose labels ever contradicts the model, where those of others do."""
    del before  # a source that always did so is no better
    losses = _by_source(labels)
    copies = {
        source: each
        for source, each in losses.items()
        if source not in trusted and len(each) and not each.any()
    }
    found = {}
    for source, own in copies.items():
        others = _joined([each for name, each in losses.items() if name not in copies])
        if len(others) and _chance(own, others, "less") < LEVEL / len(copies):
            found[source] = Suspicion(
                "self-made",
                f"All {len(own)} labels of {_named(source)} repeat the model's own answers;"
                f" of other sources' {len(others)}, {np.count_nonzero(others)} contradict them.",
            )
    return found


def _new_sources(
    labels: Sequence[Sourced], before: Mapping[str, int], trusted: frozenset[str]
) -> dict[str, Suspicion]:
    """Sources that were unknown before the change and differ, or stand alone, since."""
    if sum(before.values()) < ESTABLISHED:
        return {}
    known = {source for source, count in before.items() if count >= KNOWN} | trusted
    losses = _by_source(labels)
    others = _joined([each for source, each in losses.items() if source in known])
    fresh = {source: each for source, each in losses.items() if source not in known}
    small = {source for source, each in fresh.items() if len(each) < KNOWN}
    groups: list[tuple[str, ...]] = [(source,) for source in fresh if source not in small]
    groups += [tuple(small)] if small else []
    found = dict[str, Suspicion]()
    for sources in groups:
        own = _joined([fresh[source] for source in sources])
        suspicion = _differs(sources, own, others, len(groups))
        found |= dict.fromkeys(sources, suspicion) if suspicion else {}
    return found


def _differs(
    sources: tuple[str, ...], own: Floats, others: Floats, judged: int
) -> Suspicion | None:
    who = _named(sources[0]) if len(sources) == 1 else f"{len(sources)} small sources"
    if len(others) < COMPARABLE:
        if len(own) < KNOWN:
            return None  # too few to matter, and to be told from chance
        return Suspicion(
            "new-source",
            f"{who[0].upper()}{who[1:]} sent {len(own)} labels since the change and was not known"
            f" before; sources that were known sent {len(others)}, too few to compare.",
        )
    if _chance(own, others, "two-sided") >= LEVEL / judged:
        return None
    return Suspicion(
        "new-source",
        f"The {len(own)} labels of {who}, not known before the change, have a mean loss of"
        f" {own.mean():.3f}; those of known sources {others.mean():.3f}.",
    )


def _by_source(labels: Sequence[Sourced]) -> dict[str, Floats]:
    losses = defaultdict[str, list[float]](list)
    for one in labels:
        if one.loss is not None:
            losses[one.source].append(one.loss)
    return {source: np.array(each) for source, each in losses.items()}


def _joined(parts: Sequence[Floats]) -> Floats:
    return np.concatenate(parts) if parts else np.zeros(0)


def _chance(own: Floats, others: Floats, alternative: Literal["less", "two-sided"]) -> float:
    """The p-value of "as many of one are above the median of both as of the other"."""
    from scipy.stats import fisher_exact  # here: only a retrain pays for it

    middle = float(np.median(np.concatenate([own, others])))
    if middle >= 1.0:  # more than half are wholly wrong: then those that are not are counted
        middle = np.nextafter(1.0, 0.0)
    high, other_high = int((own > middle).sum()), int((others > middle).sum())
    table = np.array([[high, len(own) - high], [other_high, len(others) - other_high]])
    return float(fisher_exact(table, alternative=alternative).pvalue)


def _named(source: str) -> str:
    return f"source '{source}'" if source else "the source without a name"
