"""A policy in words: what would happen, on which evidence, within which bounds.

Each sentence says what the settings that stand behind it mean together, so that who is on call can
read in a minute what the loop would do, and who owns the model can see whether that is meant.
"""

from __future__ import annotations

from collections.abc import Callable

from homeostat.policy import AlertRoute, GatePolicy, Policy, RetrainPolicy, SlicePolicy

Words = dict[str, tuple[str, ...]]


def explain(policy: Policy) -> Words:
    """What would happen, by occasion, in the order in which a version meets them.

    Args:
        policy: Of one model.

    Returns:
        Sentences by the occasion that they are about.
    """
    return {occasion: tuple(say(policy)) for occasion, say in _OCCASIONS.items()}


def _mode(policy: Policy) -> list[str]:
    return {
        "act": ["The loop acts by itself, within the bounds below."],
        "recommend": [
            "The loop moves nothing: each alert carries the command that a person would run.",
            "Read 'starts' and 'goes back' below as 'is recommended'.",
        ],
        "observe": [
            "The loop only watches and tells. Nothing below moves traffic or starts a retrain."
        ],
    }[policy.mode]


def _training(policy: Policy) -> list[str]:
    when = f"on the schedule '{policy.schedule}'" if policy.schedule else "when somebody asks"
    options = ", ".join(f"{name} {value}" for name, value in policy.learner_config.items())
    return [
        f"The pipeline trains '{policy.learner}'{f' ({options})' if options else ''} on "
        f"'{policy.data}', whose truth is '{policy.label}', {when}: at most {policy.epochs} "
        f"passes, seed {policy.seed}.",
        _formats(policy),
        _card(policy),
    ]


def _formats(policy: Policy) -> str:
    if not policy.formats:
        return "No version is let in: `formats` is empty."
    if "pyfunc" not in policy.formats:
        return "Versions are weights and JSON; nothing that executes is loaded."
    also = "may also be" if "torch" in policy.formats else "are"
    return f"Versions {also} what somebody logged, whose code runs in a process of its own."


def _card(policy: Policy) -> str:
    card = policy.card
    said = {
        "licence": card.license,
        "for": card.intended_use,
        "not for": card.not_for,
        "contact": card.contact,
        "data": card.data_classification,
        "task": card.pipeline_tag,
        "tags": ", ".join(card.tags),
    }
    words = "; ".join(f"{name}: {text}" for name, text in said.items() if text)
    return f"Its card says {words}."


def _forgetting(gates: GatePolicy) -> list[str]:
    former, rate = gates.former_forgetting, _percent(gates.error_rate)
    passes = f"one that is passes with a probability of at most {rate}."
    if former is None:
        bound = f"On no regime may it be worse than the champion by {gates.forgetting:g} or more"
        return [f"{bound}; {passes}"]
    newest = f"On the newest regime it may not be worse than the champion by {gates.forgetting:g}"
    earlier = (
        "Earlier regimes it may forget."
        if former >= 1
        else f"On earlier regimes it may not be worse by {former:g} or more."
    )
    return [f"{newest} or more; {passes}", earlier]


def _candidate(policy: Policy) -> list[str]:
    gates = policy.gates
    found = [
        f"A candidate must reach an accuracy of {gates.min_accuracy:g} on its newest held-out "
        "rows.",
        *_forgetting(gates),
        f"On no class may it be worse by {gates.class_budget:g}."
        if gates.class_budget < 1
        else "Single classes may get worse by any amount.",
    ]
    found += [
        f"Slices of '{name}' ({_cut(one)}) may each be worse by {one.budget:g} at most."
        for name, one in gates.slices.items()
    ]
    found.append(f"A slice of fewer than {gates.slice_rows} rows is reported and not judged.")
    bounds = [
        f"answer 99 of 100 single rows within {gates.max_latency_ms:g} ms"
        if gates.max_latency_ms is not None
        else "",
        f"add at most {gates.max_memory_mb:g} MiB" if gates.max_memory_mb is not None else "",
    ]
    if any(bounds):
        found.append(f"In the serving code it must {' and '.join(one for one in bounds if one)}.")
    if gates.extra:
        found.append(f"Your own gates are asked too: {', '.join(gates.extra)}.")
    if gates.approvals:
        found.append(f"{_people(gates.approvals)} must approve what the gates said.")
    return found


_ALLOCATION = {
    "fixed": (),
    "thompson": (
        "That share then follows the probability that it is the better one, from 5 % to 95 % and "
        "at most twofold at once; the verdict is the same test's.",
    ),
}


def _rollout(policy: Policy) -> list[str]:
    rollout = policy.rollout
    ends = "aborted" if rollout.inconclusive == "abort" else "held for a person to decide"
    return [
        "A challenger first answers unseen (shadow), then a share of callers (canary), then all.",
        f"It goes on when it is shown worse by less than {rollout.margin:g}, and out when it is "
        f"shown worse; either is wrong with a probability of at most "
        f"{_percent(rollout.error_rate)}, however often one looks.",
        f"In canary it answers {_percent(rollout.canary_share)} of the traffic and must give "
        f"{rollout.canary_predictions:,} answers.",
        *_ALLOCATION[rollout.allocation],
        f"Without a verdict in {_time(rollout.deadline_seconds)} it is {ends}, and told so: "
        "lack of data is never success.",
        "A person may pause it, skip a step or end it: `homeostat rollout`.",
    ]


def _inputs(policy: Policy) -> list[str]:
    monitor = policy.monitor
    return [
        f"A ticket opens when a feature, or what the model answers, moved by more than "
        f"{monitor.tolerance_inputs:g} (total variation): at most one false alarm in "
        f"{monitor.budget_predictions:,} predictions, over all features together.",
        "A retrain does not follow: labels have to show a loss first. New kinds of values and "
        "missing ones are a data break: a page, and never a retrain.",
    ]


def _accuracy(policy: Policy) -> list[str]:
    monitor, retrain = policy.monitor, policy.retrain
    found = [
        f"A page opens when the mean loss rose by more than {monitor.tolerance_loss:g}: at most "
        f"one false alarm in {monitor.budget_labels:,} labels."
    ]
    delay = monitor.label_delay_seconds
    if delay is None:
        found.append(
            "Labels count in the order of their predictions, once nine of ten of these are "
            "labelled, or as old as labels were seen to take."
        )
    elif delay:
        found.append(f"Labels count in the order of their predictions, {_time(delay)} after them.")
    else:
        found.append("Labels count in the order in which they come.")
    return [
        *found,
        f"A retrain starts once {retrain.min_labels:,} labelled rows since the change are there. "
        f"It {_learns(retrain)}, for at most {retrain.epochs} passes or {_time(retrain.seconds)}; "
        f"{_percent(retrain.holdout)} of the new rows are kept apart to judge by.",
        f"A class never seen before is taken up once {retrain.new_class_rows:,} of the new rows "
        "are of it; rows of a rarer one are left out.",
        *_spends(retrain),
        _screened(retrain),
        "The mean loss of before the change stays the measure: until it is reached again, within "
        f"{monitor.tolerance_loss:g}, another retrain follows each time the labels since the "
        "change have doubled, and none after three in a row that gained nothing.",
        f"At most {retrain.max_per_day} start in 24 hours, "
        f"{_time(retrain.cool_down_seconds)} after the one before has ended. After "
        f"{retrain.max_in_vain} in vain none starts for 24 hours, or until somebody retrains.",
    ]


def _spends(retrain: RetrainPolicy) -> list[str]:
    passes = f"{retrain.patience} passes in a row bring"
    found = [
        f"It ends sooner once {'a pass brings' if retrain.patience == 1 else passes} no lower loss "
        "on a tenth of the new rows, set apart for that where 500 or more are to be learnt."
        if retrain.patience
        else "It makes all its passes, whether or not they still bring something."
    ]
    if retrain.rows_read is not None:
        found.append(f"It ends once its training has read {retrain.rows_read:,} rows.")
    if retrain.hourly_cost:
        found.append(f"An hour of its training costs {retrain.hourly_cost:g} of your money.")
    if retrain.max_cost is not None:
        bound = f"One may cost at most {retrain.max_cost:g}"
        unpriced = "that binds nothing while `hourly_cost` is 0"
        found.append(f"{bound}{'.' if retrain.hourly_cost else f': {unpriced}.'}")
    return found


def _screened(retrain: RetrainPolicy) -> str:
    if not retrain.screen_labels:
        return "Every label is learnt from, whoever sent it."
    return (
        "Labels that are contested, of a source that repeats the model's answers, or of a new "
        "source that contradicts the others wait for a person: they are not learnt from before."
    )


def _learns(retrain: RetrainPolicy) -> str:
    size = f", {retrain.memory_bytes:,} bytes at most" if retrain.memory_bytes else ""
    both = f"learns from the new rows and a memory of {retrain.memory_rows:,} old ones{size}"
    alone = "learns from the new rows alone"
    keeps = f"its memory still keeps {retrain.memory_rows:,}{size}"
    return {
        "replay": both,
        "averaged-replay": f"{both}, and ends as the mean of its way",
        "fine-tune": f"{alone}, and may forget the old; {keeps}",
        "er-ace": f"{both}, the new ones weighed among their own classes (ER-ACE)",
        "der++": f"{both}, and is held to the champion's raw outputs on those (DER++)",
        "distillation": f"{alone}, and is held to the champion's answers on them; {keeps}",
        "ewc": f"{alone}, with the weights held back that matter to a memory of "
        f"{retrain.memory_rows:,} old ones{size} (EWC)",
        "weight-averaging": f"{both}, then takes the average of the champion's weights and its own",
        "head-only": f"{both}, the last layer alone",
        "prototypes": f"adds the new rows to the sums that its head keeps (RanPAC); {keeps}",
        "auto": f"{both} in several ways, and keeps the one that gains most without forgetting",
        "full": f"begins from new weights, and {both}",
        "renewal": f"{alone}, going on from its weights or from new ones, whichever does better; "
        f"{keeps}",
    }[retrain.strategy]


def _silence(policy: Policy) -> list[str]:
    monitor = policy.monitor
    return [
        f"No predictions: a page {_pause(monitor.silent_predictions_seconds)}.",
        f"Predictions, but no labels: a ticket {_pause(monitor.silent_labels_seconds)}.",
        f"Answers that no monitor counts: a page after {_time(monitor.unwatched_seconds)}."
        if monitor.unwatched_seconds
        else "Whether the monitors count what is answered is not watched.",
    ]


def _pause(seconds: float | None) -> str:
    if seconds is None:
        return "after twice the longest pause of the last 14 days, once 8 days are known"
    return f"after {_time(seconds)}" if seconds else "never opens"


def _worse(policy: Policy) -> list[str]:
    rollback = policy.rollback
    return [
        f"The standby is asked unseen about {_percent(rollback.standby_share)} of the traffic. "
        f"Traffic goes back to it when the champion is shown worse by more than "
        f"{rollback.tolerance:g}: at most one false rollback in {rollback.budget_labels:,} labels.",
        "Errors, and outputs that are not finite, send traffic back without labels.",
        "Where accuracy fell and the standby does no better, the last versions that had all "
        "traffic are measured on the newest labelled rows: traffic goes back to the newest that "
        "does as well there as where it was judged, and better than the champion.",
        "What was withdrawn is quarantined: only a person's override lets it in again.",
    ]


def _moved(policy: Policy) -> list[str]:
    does = {
        "enforce": "is put back, and the page says why",
        "warn": "is served, and a ticket opens",
        "override": "is served",
    }[policy.alias_moves]
    return [
        "An alias that somebody sets in MLflow is a request: a version whose gates passed is "
        "served, or tried, as it says.",
        f"One set to a version whose gates did not pass {does}.",
    ]


def _alerts(policy: Policy) -> list[str]:
    where = "nowhere: set `alerts`. `homeostat incidents` shows them"
    if policy.alerts:
        where = f"to {_count(len(policy.alerts), 'address', 'addresses')}"
    when = f"on the schedule '{policy.report_schedule}'" if policy.report_schedule else "by hand"
    routes = [_route(one) for one in policy.alerts if isinstance(one, AlertRoute)]
    return [f"Alerts go {where}.", *routes, f"Reports are made {when}.", _digest(policy)]


def _digest(policy: Policy) -> str:
    when = f"on the schedule '{policy.digest_schedule}'" if policy.digest_schedule else "by hand"
    return f"A digest of the week is told {when}, to none of the pagers."


def _route(one: AlertRoute) -> str:
    what = "only of pages" if one.severity == "page" else "of every incident"
    when = f", and only within {one.hours} ({one.zone})" if one.hours else ""
    scheme = one.to.partition("://")[0]
    return f"One of them ({scheme}) hears {what}{when}."


_OCCASIONS: dict[str, Callable[[Policy], list[str]]] = {
    "What it may do by itself": _mode,
    "Training": _training,
    "A new candidate": _candidate,
    "A challenger": _rollout,
    "The inputs moved": _inputs,
    "Accuracy fell": _accuracy,
    "Nothing comes": _silence,
    "The champion is worse than the standby": _worse,
    "Somebody moved an alias in MLflow": _moved,
    "Who is told": _alerts,
}


def _cut(one: SlicePolicy) -> str:
    if one.values:
        return ", ".join(one.values)
    return "cut at " + ", ".join(f"{cut:g}" for cut in one.cuts)


def _people(count: int) -> str:
    return _count(count, "person", "people")


def _count(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _time(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
