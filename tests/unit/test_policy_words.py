"""A policy in words: every setting is in them, and they say what is meant."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from pydantic import BaseModel

from homeostat.policy import Policy
from homeostat.policy_words import explain

OTHER: dict[str, Any] = {
    "learner_config": {"hidden": 32},
    "formats": ("torch", "pyfunc"),
    "mode": "recommend",
    "alias_moves": "warn",
    "alerts": ("https://on-call.example",),
    "gates.slices": {"age": {"cuts": [30.0, 60.0]}},
    "gates.extra": ("house:gate",),
    "retrain.strategy": "fine-tune",
    "rollout.allocation": "thompson",
    "rollout.inconclusive": "hold",
    "card.tags": ("vision",),
    "gates.class_budget": 0.25,
    "gates.former_forgetting": 0.5,
    "retrain.screen_labels": False,
    "retrain.memory_bytes": 1_000_000,
}


def fields(model: type[BaseModel], above: str = "") -> list[tuple[str, Any]]:
    """Each setting's dotted name, and its default."""
    found = []
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            found += fields(type(default), f"{above}{name}.")
        else:
            found.append((f"{above}{name}", default))
    return found


def changed(default: Any) -> Any:  # noqa: ANN401 - whatever the setting is
    """Another value of the same kind."""
    if isinstance(default, str):
        return "0 3 * * *"
    if isinstance(default, float):
        return default / 2 if default else 900.0
    return (default or 0) + 7


def with_value(name: str, value: object) -> Policy:
    table: dict[str, Any] = {}
    *above, last = name.split(".")
    inner = table
    for one in above:
        inner = inner.setdefault(one, {})
    inner[last] = value
    return Policy.model_validate(table)


def test_who_hears_of_what_and_when_is_in_the_words() -> None:
    routes = [{"to": "slack://a", "severity": "page", "hours": "22:00-06:00"}, {"to": "json://b"}]
    said = explain(Policy.model_validate({"alerts": routes}))["Who is told"]
    assert said[:3] == (
        "Alerts go to 2 addresses.",
        "One of them (slack) hears only of pages, and only within 22:00-06:00 (UTC).",
        "One of them (json) hears of every incident.",
    )


@pytest.mark.parametrize(("name", "default"), fields(Policy))
def test_every_setting_is_in_the_words(name: str, default: object) -> None:
    value = OTHER[name] if name in OTHER else changed(default)
    assert explain(with_value(name, value)) != explain(Policy()), name


def test_nothing_is_promised_where_the_loop_only_watches() -> None:
    words = explain(Policy(mode="observe"))
    assert words["What it may do by itself"] == (
        "The loop only watches and tells. Nothing below moves traffic or starts a retrain.",
    )


def test_a_slice_and_its_budget_are_named() -> None:
    gates = {"slices": {"age": {"cuts": [30, 60], "budget": 0.05}}, "approvals": 1}
    words = explain(Policy.model_validate({"gates": gates}))["A new candidate"]
    assert "Slices of 'age' (cut at 30, 60) may each be worse by 0.05 at most." in words
    assert "1 person must approve what the gates said." in words


def test_what_is_not_bounded_is_not_said_to_be() -> None:
    gates = {"max_latency_ms": None, "max_memory_mb": None, "class_budget": 1}
    words = " ".join(explain(Policy.model_validate({"gates": gates}))["A new candidate"])
    assert "serving code" not in words
    assert "Single classes may get worse by any amount." in words


def test_sentences_end_and_hold_no_number_that_nobody_reads() -> None:
    for policy in (Policy(), Policy(mode="act", schedule="0 3 * * *", formats=("pyfunc",))):
        for sentence in itertools.chain.from_iterable(explain(policy).values()):
            assert sentence.endswith("."), sentence
            assert "None" not in sentence, sentence
            assert "0000" not in sentence, sentence
