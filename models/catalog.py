"""Where learners come from: the entry-point group `homeostat.learners`, or an import path."""

from __future__ import annotations

import difflib
import importlib
import inspect
from importlib.metadata import entry_points

from homeostat.errors import SettingsError
from models.learner import Learner

GROUP = "homeostat.learners"


def known_learners() -> dict[str, str]:
    """Installed learners by name, each with its `module:Class`.

    Raises:
        SettingsError: two installed packages claim one name.
    """
    known: dict[str, str] = {}
    for point in entry_points(group=GROUP):
        if known.setdefault(point.name, point.value) != point.value:
            raise SettingsError(
                f"Two packages offer a learner '{point.name}': {known[point.name]} "
                f"and {point.value}.",
                remedy="Uninstall one, or use its import path as the policy's learner.",
                learner=point.name,
            )
    return dict(sorted(known.items()))


def find_learner(reference: str) -> type[Learner]:
    """The learner's class, by a name of `known_learners` or by `module:Class`.

    Raises:
        SettingsError: there is no such learner, or what is there is none.
    """
    path = reference
    if ":" not in reference:
        known = known_learners()
        if reference not in known:
            near = difflib.get_close_matches(reference, known, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise _unusable(
                reference,
                f"There is no learner '{reference}'.{hint}",
                f"Known: {', '.join(known) or 'none'}; a learner of your own goes by module:Class.",
            )
        path = known[reference]
    module_name, _, class_name = path.partition(":")
    found = _imported(reference, module_name, class_name)
    if not (inspect.isclass(found) and issubclass(found, Learner)):
        raise _unusable(reference, f"{path} is not a Learner.", "Derive it from models.Learner.")
    if inspect.isabstract(found):
        lacking = ", ".join(sorted(found.__abstractmethods__))
        raise _unusable(reference, f"{path} lacks {lacking}.", "Define what is lacking.")
    return found


def _imported(reference: str, module_name: str, class_name: str) -> object:
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        # A module of the user's may fail with anything while it is imported.
        raise _unusable(
            reference,
            f"The module '{module_name}' of the learner '{reference}' cannot be imported: {error}.",
            "Install its package, or start where Python finds the module.",
        ) from error
    found: object = getattr(module, class_name, None)
    if found is None:
        near = difflib.get_close_matches(class_name, dir(module), n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise _unusable(
            reference,
            f"The module '{module_name}' has no '{class_name}'.{hint}",
            "Write the learner as module:Class.",
        )
    return found


def _unusable(reference: str, message: str, remedy: str) -> SettingsError:
    return SettingsError(message, remedy=remedy, learner=reference)
