"""Making a candidate: plain functions over `models`, without a server.

N rows, D encoded columns, C classes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from flows.golden import GOLDEN_FILE, golden
from flows.lessons import Lesson
from homeostat.errors import Refused
from homeostat.policy import Policy, RetrainPolicy
from models.artifact import save_model, write_manifest
from models.catalog import find_learner, known_learners
from models.continual import retrain
from models.data import Dataset
from models.evaluate import evaluate
from models.learner import Budget, Examples, FitReport, Label, Learner
from models.memory import Memory
from models.regimes import Regimes
from models.torch_learner import guarded
from monitoring.profile import Profile
from registry.runtimes import open_version


@dataclass(frozen=True)
class Champion:
    """The version that a candidate learns from and is compared with.

    `folder` holds its `model/` files; `memory` and `regimes` were read from the folder `replay`.
    """

    version: int
    digest: str
    reference: str
    learner: Learner
    module: nn.Module
    memory: Memory
    regimes: Regimes
    folder: Path
    replay: Path


@dataclass(frozen=True)
class Trial:
    """One of the strategies that `auto` tried, as the gates would see it.

    Args:
        strategy: Its name.
        gain: How much less it loses than the champion on the newest regime.
        forgetting: How much more on the earlier regime where it forgot most; 0 where there is none.
        keeps: Whether that is within the bound.
        seconds: Wall time of its training.
    """

    strategy: str
    gain: float
    forgetting: float
    keeps: bool
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.strategy}: gain {self.gain:+.3f}, forgot {self.forgetting:+.3f}"
            f"{'' if self.keeps else ' (too much)'}, {self.seconds:.1f} s"
        )


@dataclass(frozen=True)
class Trained:
    """A trained module that nobody has judged yet.

    Args:
        reference: Of its learner.
        learner: Whose module it is.
        module: The trained one.
        lesson: What it learnt.
        fit: What the training did.
        cpu_seconds: What the training took, that of processes that were killed meanwhile with it.
        unseen: Share of the lesson's labels that name a class which the champion does not have;
            None where no champion went on.
        full_steps: Steps that a full retrain would take; None where it was none that goes on.
        strategy: Of the retrain; empty where no champion went on.
        trials: What `auto` tried before it chose; empty where the policy named a strategy.
    """

    reference: str
    learner: Learner
    module: nn.Module
    lesson: Lesson
    fit: FitReport
    cpu_seconds: float
    unseen: float | None = None
    full_steps: int | None = None
    strategy: str = ""
    trials: tuple[Trial, ...] = ()


def load_champion(version: int, folder: Path, replay: Path, policy: Policy) -> Champion:
    """A registered version with its memory and its frozen held-out rows.

    Args:
        version: Its number.
        folder: Its fetched `model/`.
        replay: Its fetched `replay/`.
        policy: Whose learner is allowed besides the installed ones.

    Raises:
        ArtifactError: a folder is not what was registered.
    """
    loaded = open_version(
        folder,
        f"version {version}",
        allowed={policy.learner, *known_learners()},
        formats=policy.formats,
    )
    memory, regimes = Memory.load(replay), Regimes.load(replay)
    return Champion(
        version,
        loaded.digest,
        loaded.reference,
        loaded.learner,
        loaded.model,
        memory,
        regimes,
        folder,
        replay,
    )


def retrain_budget(rules: RetrainPolicy) -> Budget:
    """What a retrain may spend; its money is time at the rate of an hour."""
    seconds = rules.seconds
    if rules.max_cost is not None and rules.hourly_cost:
        seconds = min(seconds, 3600.0 * rules.max_cost / rules.hourly_cost)
    patience = rules.patience or None
    return Budget(epochs=rules.epochs, seconds=seconds, rows=rules.rows_read, patience=patience)


def train_afresh(
    lesson: Lesson, policy: Policy, champion: Champion | None, budget: Budget | None = None
) -> Trained:
    """Train a new module on a data set and on the champion's memory of all other regimes.

    Without the memory a scheduled pipeline would unlearn what retrains have taught since, and
    the forgetting gate would refuse it every time. Its rows are learnt like new ones: replay
    with distillation is for a module that knows something already. Classes that retrains have
    taken up since stay too.

    Args:
        lesson: The data set, split.
        policy: Of the model.
        champion: Whose memory is learnt too, or None.
        budget: What the training may spend; None: as the policy says.

    Raises:
        SettingsError: there is no such learner.
        DataError: the data cannot be learnt from.
        LearnerError: the learner's own code failed.
    """
    kind = find_learner(policy.learner)
    rows, labels = lesson.train.rows, lesson.train.labels
    learner = guarded(kind.from_data, rows, labels, policy.learner_config)
    if champion is not None and guarded(champion.learner.extends, learner):
        learner = champion.learner
    generator = torch.Generator().manual_seed(policy.seed)
    module = guarded(learner.build, generator)
    data = _to_learn(learner, lesson)
    if (kept := _other_regimes(champion, learner, lesson.regime)) is not None:
        data = Examples(torch.cat([data.x, kept.x]), torch.cat([data.y, kept.y]))
    budget = budget or Budget(epochs=policy.epochs)
    started = time.process_time()
    fit = guarded(learner.fit, module, data, None, budget, generator)
    spent = time.process_time() - started + fit.cpu_before
    return Trained(policy.learner, learner, module, lesson, fit, spent)


def train_further(
    lesson: Lesson, policy: Policy, champion: Champion, budget: Budget | None = None
) -> Trained:
    """Train a copy of the champion on the rows of a new regime, by the policy's strategy.

    A class that `retrain.new_class_rows` labels of the lesson name, and the champion does not
    have, is taken up first: the copy gets an output for it, and starts with the champion's
    answers. Rows of rarer new classes are left out.

    Args:
        lesson: The rows, split.
        policy: Of the model.
        champion: Whose weights go on.
        budget: What the training may spend; None: as the policy says.

    Raises:
        Refused: the champion was adopted.
        DataError: the rows cannot be learnt from.
        LearnerError: the learner's own code failed.
    """
    if champion.learner.format != "torch":
        raise Refused(
            f"Version {champion.version} was adopted: it is served and watched, and cannot be"
            " trained.",
            remedy="Train a version with a learner: homeostat train MODEL.",
        )
    rules, known = policy.retrain, champion.learner
    labels = [*lesson.train.labels, *lesson.held_out.labels]
    unseen = _unseen_share(known, labels)
    learner = guarded(known.grown, labels, rules.new_class_rows)
    started = time.process_time()
    module = champion.module
    if learner is not known:
        generator = torch.Generator().manual_seed(policy.seed)
        module = guarded(known.grow, module, learner, generator)
    budget, new = budget or retrain_budget(rules), _to_learn(learner, lesson)
    module, fit = retrain(
        learner, module, new, champion.memory, rules.strategy, budget, policy.seed
    )
    spent = time.process_time() - started + fit.cpu_before
    full = policy.epochs * math.ceil((champion.memory.seen + len(new)) / budget.batch_size)
    reference, strategy = champion.reference, rules.strategy
    return Trained(reference, learner, module, lesson, fit, spent, unseen, full, strategy)


def save(
    folder: Path, trained: Trained, profile: Profile, champion: Champion | None, policy: Policy
) -> str:
    """Write a candidate's `model/` and `replay/` under `folder` and answer its digest."""
    asked = golden(trained.learner, trained.module, trained.lesson.held_out.rows)
    files = {"profile.json": profile.to_json().encode(), GOLDEN_FILE: asked}
    model = folder / "model"
    digest = save_model(model, trained.reference, trained.learner, trained.module, files)
    memory, regimes = remember(trained, champion, policy)
    replay = folder / "replay"
    memory.save(replay)
    regimes.save(replay)
    write_manifest(replay)
    return digest


def remember(trained: Trained, champion: Champion | None, policy: Policy) -> tuple[Memory, Regimes]:
    """The memory and the frozen rows that go with a candidate; the champion's stay untouched."""
    lesson, learner = trained.lesson, trained.learner
    regimes = Regimes()
    if champion is not None:
        for number in shared_regimes(champion, learner, lesson.regime):
            regimes.add(number, champion.regimes.get(number))
            if number in champion.regimes.learnt:
                regimes.learnt[number] = champion.regimes.learnt[number]
    frozen = held_out(learner, lesson)
    regimes.add(lesson.regime, frozen)
    regimes.learnt[lesson.regime] = evaluate(learner, trained.module, frozen.x, frozen.y).accuracy
    memory = _inherited_memory(champion, learner, lesson.regime, policy)
    memory.add(_to_learn(learner, lesson))
    return memory, regimes


def _inherited_memory(
    champion: Champion | None, learner: Learner, newest: int, policy: Policy
) -> Memory:
    """The champion's memory to add to, without rows of the regime that is about to be added."""
    if champion is not None and guarded(learner.extends, champion.learner):
        if newest not in champion.regimes.numbers:
            inherited = Memory.load(champion.replay)
            # They may have been changed since.
            inherited.capacity = policy.retrain.memory_rows
            inherited.most_bytes = policy.retrain.memory_bytes
            return inherited
        kept = _other_regimes(champion, learner, newest)
        memory = _empty_memory(policy)
        if kept is not None:
            memory.add(kept)
        return memory
    return _empty_memory(policy)


def _empty_memory(policy: Policy) -> Memory:
    return Memory(policy.retrain.memory_rows, policy.seed, policy.retrain.memory_bytes)


def _to_learn(learner: Learner, lesson: Lesson) -> Examples:
    return _examples(learner, lesson.train, lesson.train_ids, lesson.regime)


def held_out(learner: Learner, lesson: Lesson) -> Examples:
    """The rows of a lesson that nothing is taught, encoded; of its regime."""
    return _examples(learner, lesson.held_out, lesson.held_out_ids, lesson.regime)


def _examples(learner: Learner, dataset: Dataset, ids: tuple[str, ...], regime: int) -> Examples:
    """A data set encoded, each row with its regime: x (N, D) and y (N,)."""
    x = guarded(learner.encode, dataset.rows)
    y = guarded(learner.targets, dataset.labels)
    return Examples(x, y, ids, torch.full((len(x),), regime, dtype=torch.int64))


def _unseen_share(learner: Learner, labels: Sequence[Label]) -> float:
    """The share of labels of classes that the learner does not have; of values none."""
    y = guarded(learner.targets, labels)
    return 0.0 if y.is_floating_point() else float((y < 0).double().mean())


def shared_regimes(champion: Champion, learner: Learner, newest: int) -> Sequence[int]:
    """The champion's regimes, but the one of the lesson, that `learner` can read too."""
    if not guarded(learner.extends, champion.learner):
        return ()
    return [number for number in champion.regimes.numbers if number != newest]


def _other_regimes(champion: Champion | None, learner: Learner, newest: int) -> Examples | None:
    """The rows of the champion's memory that are of other regimes and that `learner` can read."""
    if (
        champion is None
        or not guarded(learner.extends, champion.learner)
        or not len(champion.memory)
    ):
        return None
    kept = champion.memory.examples()
    others = kept.regime != newest
    if not bool(others.any()):
        return None
    ids = tuple(one for one, other in zip(kept.ids, others.tolist(), strict=True) if other)
    return Examples(kept.x[others], kept.y[others], ids, kept.regime[others])
