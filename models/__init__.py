"""What learns: learners, training, replay memory, artifacts."""

from models.artifact import LoadedModel, load_model, save_model, verify, write_manifest
from models.catalog import find_learner, known_learners
from models.code import Code
from models.continual import retrain
from models.data import Dataset, read_dataset, split
from models.digits import Digits
from models.evaluate import Evaluation, evaluate, predict
from models.learner import Budget, Examples, FitReport, Label, Learner, Row
from models.memory import Memory
from models.prototypes import Prototypes
from models.regimes import Regimes
from models.strategies import STRATEGIES
from models.table import Table
from models.text import Text
from models.torch_learner import (
    TorchLearner,
    class_name,
    find_classes,
    guarded,
    initialise,
)

__all__ = [
    "STRATEGIES",
    "Budget",
    "Code",
    "Dataset",
    "Digits",
    "Evaluation",
    "Examples",
    "FitReport",
    "Label",
    "Learner",
    "LoadedModel",
    "Memory",
    "Prototypes",
    "Regimes",
    "Row",
    "Table",
    "Text",
    "TorchLearner",
    "class_name",
    "evaluate",
    "find_classes",
    "find_learner",
    "guarded",
    "initialise",
    "known_learners",
    "load_model",
    "predict",
    "read_dataset",
    "retrain",
    "save_model",
    "split",
    "verify",
    "write_manifest",
]
