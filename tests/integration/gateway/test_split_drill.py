"""Two gateway processes cut from a real PostgreSQL and so from each other, callers at both.

`python -m benchmarks.split` runs the same for five minutes each; here a cut lasts as long as it
takes until all that has to happen in it has happened, by the real lease of 15 seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from benchmarks.cuts import Kind
from benchmarks.gateway import MODEL, prepare
from benchmarks.rollback_alias import register
from benchmarks.split_drills import Pair, Who, pair
from serving.gateway import ANSWER_SECONDS
from serving.lease import SECONDS as LEASE_SECONDS

pytestmark = pytest.mark.postgres

# By themselves labels would wait, after a cut in which some were refused, as long as those did.
CONFIG = f"[models.{MODEL}.monitor]\nlabel_delay_seconds = 0\n"
SLACK_SECONDS = 10.0  # of a machine that has much else to do


@pytest.fixture(scope="module")
def gateways(
    tmp_path_factory: pytest.TempPathFactory,
    new_postgres: Callable[[], AbstractContextManager[str]],
    run_mlflow: Callable[..., AbstractContextManager[str]],
) -> Iterator[Pair]:
    """Two gateways that answer by the same version; another one is there that labels contradict."""
    state: Path = tmp_path_factory.mktemp("split") / "state"
    state.mkdir()
    folder = tmp_path_factory.mktemp("split-mlflow")
    with new_postgres() as database, run_mlflow(folder) as url:
        prepare(state, database, versions=2)
        register(state, url, 2, database)
        with pair(state, database, url, CONFIG) as made:
            yield made


@pytest.mark.parametrize(
    ("who", "kind"),
    [
        ("holder", "hole"),
        ("holder", "reset"),
        ("holder", "late"),
        ("other", "hole"),
        ("both", "hole"),
    ],
)
def test_cut_off_gateways_answer_on_decide_nothing_and_agree_within_five_seconds(
    gateways: Pair, who: Who, kind: Kind
) -> None:
    """One decision, one incident, one move of the alias; no answer or label lost or twice."""
    done = gateways.drill(who, kind)
    assert done.wrong() == []
    assert done.slowest < 2.0, done
    if done.takeover is not None:
        assert done.takeover < LEASE_SECONDS + SLACK_SECONDS
    elif done.decided is not None:  # who acts is not held up
        assert done.decided < SLACK_SECONDS
    assert max(one.seconds for one in done.refused) < ANSWER_SECONDS + SLACK_SECONDS
