"""The five acts of the demo. Each is checked from outside: HTTP answers, MLflow, the alerts."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from homeostat.demo import rivals
from homeostat.demo.receiver import Received
from homeostat.demo.stage import MODEL, Stage
from homeostat.demo.traffic import Record


def train(stage: Stage) -> None:
    """Act 1: the pipeline makes, judges, registers and promotes version 1."""
    stage.begin(
        "Act 1: a model is trained, judged, registered and promoted",
        "The pipeline flow learns handwritten digits, judges itself on images it has not seen, "
        "and hands version 1 to MLflow with the profile of what it expects to see.",
    )
    with stage.progress("pipeline flow", 1) as tick:
        stage.command("train", MODEL)
        tick(1)
    stage.check(_runs(stage, "pipeline") == 1, "Prefect shows one completed run of `pipeline`")
    stage.check(stage.champion() == 1, "in MLflow the alias `champion` names version 1")
    version = stage.mlflow("model-versions/get", name=MODEL, version="1")["model_version"]
    run = stage.mlflow("runs/get", run_id=version["run_id"])["run"]
    metrics = {m["key"]: m["value"] for m in run["data"].get("metrics", [])}
    stage.check("accuracy" in metrics, f"its run has metrics (accuracy {metrics['accuracy']:.3f})")
    files = {f["path"] for f in stage.mlflow("artifacts/list", run_id=version["run_id"])["files"]}
    inner = stage.mlflow("artifacts/list", run_id=version["run_id"], path="model")["files"]
    paths = files | {f["path"] for f in inner}
    stage.check(
        {"model/profile.json", "model_card.md"} <= paths,
        "the profile and the model card lie beside the weights",
    )
    stage.say(f"MLflow  {stage.settings.mlflow_address}/#/models/{MODEL}/versions/1")
    stage.say(f"Prefect {stage.settings.prefect_address.removesuffix('/api')}/runs")


def serve(stage: Stage) -> None:
    """Act 2: stationary traffic raises no alarm."""
    stage.begin(
        "Act 2: the gateway serves it, and quiet traffic stays quiet",
        "Callers send images; the truth about each follows a little later, by prediction id. "
        "Nothing changes, so nothing may alarm.",
    )
    stage.wait(lambda: _answers(stage), "the gateway answers with version 1")
    record = Record()
    stage.stream("images", stage.held, record, most=1000, seed=1)
    stage.check_answered(record)
    stage.check(set(record.versions(10_000)) == {1}, "every answer names version 1")
    stage.check(not stage.receiver.alerts, "the on-call tool received nothing")
    stage.figure("accuracy before the change", f"{record.accuracy():.3f}")


def adapt(stage: Stage) -> None:
    """Act 3: the handwriting changes; the loop notices, learns and recovers by itself."""
    stage.begin(
        "Act 3: the handwriting changes",
        "The same people now write with a slant to the left. Half of the held-out images are "
        "streamed so; the other half is kept to measure with at the end.",
    )
    streamed, kept = (half.slanted() for half in stage.held.halves())
    record = Record()
    looked = [0.0]

    def recovered() -> bool:
        news.tell(record)
        if set(record.versions(60)) != {2} or time.monotonic() - looked[0] < 0.5:
            return False
        looked[0] = time.monotonic()
        return stage.champion() == 2

    began = time.monotonic()
    news = News(stage, began, len(stage.receiver.alerts))
    stage.stream("slanted images", streamed, record, most=30_000, seed=2, until=recovered)
    heard = [alert.words for alert in stage.receiver.alerts if alert.at >= began]
    stage.check(any("input-drift" in w for w in heard), "an alert told of input drift")
    stage.check(any('"loss"' in w for w in heard), "an alert told of accuracy drift")
    first = stage.receiver.alerts[0]
    stage.check_answered(record)
    stage.wait(
        lambda: _runs(stage, "retrain") == 1, "Prefect shows one completed run of `retrain`", 20.0
    )
    trial = [a.version for a in record.answers if a.at < _last(record, 1)]
    stage.check(2 in trial, f"version 2 earned it: {trial.count(2)} answers in canary before all")
    stage.check(set(record.versions(60)) == {2}, "version 2 answers, with no restart")
    stage.check(stage.champion() == 2, "in MLflow the alias `champion` names version 2")
    old = [a for a in record.answers if a.version == 1]
    split = next(a.at for a in record.answers if a.version == 2)
    before = sum(a.at < first.at for a in old)
    stage.figure("images until the first alert", str(before))
    stage.figure("seconds from the change to the first answer of version 2", _s(split - began))
    stage.figure("accuracy of version 1 on slanted images", f"{record.accuracy(old):.3f}")

    fresh = Record()
    stage.stream("slanted images it has never seen", kept, fresh, most=500, seed=3)
    stage.check_answered(fresh)
    taught = [a for a in old if a.at < split]
    with stage.progress("fine-tuning without replay, to compare", 1) as tick:
        figures = rivals.compare(stage, taught, kept)
        tick(1)
    stage.check(
        fresh.accuracy() > record.accuracy(old) + 0.1,
        f"accuracy recovered on slanted images: {record.accuracy(old):.3f} → "
        f"{fresh.accuracy():.3f}",
    )
    stage.check(
        figures.replay_old > figures.before_old - 0.03,
        f"and held on upright ones: {figures.before_old:.3f} → {figures.replay_old:.3f} "
        f"(fine-tuning without replay would have kept {figures.naive_old:.3f})",
    )
    stage.check(
        not figures.naive_gate.passed,
        f"the gates would have refused that: {figures.naive_gate.reason}",
    )
    stage.figure("accuracy of version 2 on slanted images", f"{fresh.accuracy():.3f}")
    stage.figure("  the same, fine-tuned without replay", f"{figures.naive_new:.3f}")
    stage.figure("accuracy of version 1 on upright images", f"{figures.before_old:.3f}")
    stage.figure("accuracy of version 2 on upright images", f"{figures.replay_old:.3f}")
    stage.figure("  the same, fine-tuned without replay", f"{figures.naive_old:.3f}")


def roll_back(stage: Stage) -> None:
    """Act 4: somebody promotes a bad version; labels take it back."""
    stage.begin(
        "Act 4: somebody promotes a bad version by hand",
        "A colleague's version 3 takes 3 for 8, 4 for 9 and the other way round. He asks for the "
        "override that the policy wants, and moves `champion` through MLflow's own API.",
    )
    bad = rivals.register_bad_version(stage)
    reply = httpx.post(
        f"{stage.settings.gateway_admin_address}/v1/models/{MODEL}/overrides",
        json={"version": bad, "reason": "it looked better on my laptop", "expires_hours": 1},
        headers={"Authorization": f"Bearer {stage.settings.secret_token()}"},
        timeout=10.0,
    )
    stage.check(reply.status_code == 200, "the override is recorded with a reason and an expiry")
    already = len(stage.receiver.alerts)
    moved = httpx.post(
        f"{stage.settings.mlflow_address}/api/2.0/mlflow/registered-models/alias",
        json={"name": MODEL, "alias": "champion", "version": str(bad)},
        timeout=10.0,
    )
    stage.check(moved.status_code == 200, f"MLflow's alias `champion` now names version {bad}")
    _, kept = (half.slanted() for half in stage.held.halves())
    record = Record()

    def returned() -> bool:
        news.tell(record)
        seen = [a.version for a in record.answers]
        return bad in seen and set(seen[-60:]) == {2}

    news = News(stage, time.monotonic(), already)
    stage.stream("images", kept, record, most=6000, seed=4, until=returned)
    wrong = [a for a in record.answers if a.version == bad]
    stage.check(bool(wrong), f"version {bad} took the traffic")
    stage.check(set(record.versions(60)) == {2}, "traffic went back to version 2 by itself")
    stage.check_answered(record)
    stage.wait(lambda: stage.champion() == 2, "in MLflow the alias `champion` followed", 20.0)
    stage.wait(
        lambda: _mitigated(stage, already) is not None,
        "the alert says what was done and how to undo it:",
        20.0,
    )
    told = _mitigated(stage, already)
    assert told is not None
    stage.say(f"[dim]{told.data.get('text', '')}[/dim]")
    after = Record()
    stage.stream("images, once more", kept, after, most=300, seed=5)
    stage.check_answered(after)
    last = _last(record, bad)
    deciding = _deciding(record, last)
    labels = sum(label.version == bad and label.sent <= deciding for label in record.labelled)
    stage.figure("accuracy of the bad version", f"{record.accuracy(wrong):.3f}")
    stage.figure("labels needed to take the traffic back", str(labels))
    stage.figure(
        "seconds from the deciding label to its last answer", _s(max(0.0, last - deciding))
    )
    stage.figure("requests", str(stage.requests))
    stage.figure("failed requests", str(stage.failures))


def report(stage: Stage) -> Path:
    """Act 5: one page and one picture of what happened."""
    stage.begin(
        "Act 5: the report",
        "One page and one picture to show to a colleague.",
    )
    with stage.progress("report", 1) as tick:
        stage.command("report", MODEL, "--hours", "1")
        tick(1)
    folder = stage.settings.state_dir / "reports"
    pages = sorted(folder.rglob("*.html"), key=lambda path: path.stat().st_mtime)
    page = next((p for p in reversed(pages) if "timeline" in p.name), None)
    stage.check(page is not None, "the page is there")
    assert page is not None
    picture = page.with_suffix(".png")
    stage.check(picture.exists(), "and the picture beside it")
    return page


@dataclass
class News:
    """Tells what happens while images are streamed: alerts, and who answers."""

    stage: Stage
    began: float
    alerts: int
    answering: frozenset[int] = frozenset()

    def tell(self, record: Record) -> None:
        """Say what is new since the last call."""
        for alert in self.stage.receiver.alerts[self.alerts :]:
            self.alerts += 1
            text = f"alert ({alert.data.get('status')}): {alert.data.get('title')}"
            self._say(alert.at, f"{text}. {alert.data.get('text', '')}")
        now = frozenset(record.versions(60))
        if now and now != self.answering:
            self.answering = now
            named = " and ".join(f"version {version}" for version in sorted(now))
            self._say(record.answers[-1].at, f"{named} answer{'' if len(now) > 1 else 's'}")

    def _say(self, at: float, text: str) -> None:
        self.stage.say(f"[dim]{at - self.began:5.1f} s[/dim]  {text}")


def _answers(stage: Stage) -> bool:
    pixels = stage.held.pixels[0].tolist()
    reply = httpx.post(
        f"{stage.settings.gateway_address}/v1/models/{MODEL}/predict",
        json={"row": pixels},
        headers={"Authorization": f"Bearer {stage.settings.secret_token()}"},
        timeout=10.0,
    )
    return reply.status_code == 200 and reply.json()["version"] == 1


def _runs(stage: Stage, flow: str) -> int:
    """How many completed runs of a flow Prefect shows."""
    reply = httpx.post(
        f"{stage.settings.prefect_address}/flow_runs/filter",
        json={"flows": {"name": {"any_": [flow]}}},
        timeout=10.0,
    )
    return sum(run["state_type"] == "COMPLETED" for run in reply.json())


def _mitigated(stage: Stage, already: int) -> Received | None:
    """The first new alert of harm ended, with the command that undoes what was done."""
    for alert in stage.receiver.alerts[already:]:
        details = alert.data.get("details", {})
        if details.get("state") == "mitigated" and details.get("undo"):
            return alert
    return None


def _last(record: Record, version: int) -> float:
    """When the last answer of a version arrived."""
    return max(a.at for a in record.answers if a.version == version)


def _deciding(record: Record, last: float) -> float:
    """When the deciding label was sent: the newest that could have ended the bad answers.

    Traffic moves while the deciding label is taken in. Where a label was sent between that and
    the last bad answer's arrival, it is taken for the deciding one, and a few labels too many
    are counted; where no bad answer came after it, the label before is, and time is overstated.
    """
    return max(label.sent for label in record.labelled if label.sent <= last)


def _s(seconds: float) -> str:
    return f"{seconds:.2f}"
