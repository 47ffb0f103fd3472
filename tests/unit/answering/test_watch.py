"""What the watch of a model knows of the routing that it follows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from homeostat.clock import utc_now
from homeostat.policy import Policy
from serving.fleet import Split
from serving.runtime import Loaded
from serving.watch import Watch


@pytest.mark.parametrize("role", ["standby", "challenger"])
def test_versions_are_compared_as_long_as_the_champion_has_another_beside_it(
    loaded: Callable[..., Loaded], role: str
) -> None:
    """A champion alone may be judged by labels that would tell nothing of two (`frontier`)."""
    watch, champion, other = Watch("m", Policy(), utc_now), loaded(1), loaded(2)
    beside = {
        "standby": Split("m", 2, champion, standby=other),
        "challenger": Split("m", 2, champion, challenger=other),
    }
    found = [watch.comparing]
    for split in (Split("m", 1, champion), beside[role], Split("m", 3, champion)):
        watch.follow(split)
        found.append(watch.comparing)
    assert found == [False, False, True, False]
