"""What the check of a token costs a request for predictions.

    python -m benchmarks.access [--tokens 1000] [--rounds 7]

The gateway's own code is timed as the predict path calls it, with so many tokens known: the whole
of the door (token, verb, model, rate, concurrency), and of it the token alone. CPU time of the
thread; the median of the rounds.
"""

from __future__ import annotations

import argparse
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import SecretStr

from homeostat.clock import utc_now
from homeostat.policy import Policy
from homeostat.settings import Settings
from registry.tokens import MARK, Token, hash_of
from serving.access import Access
from serving.batching import Batcher
from serving.fleet import Fleet
from serving.metrics import Metrics
from serving.predicting import Predictor, Wanted
from serving.spool import Spool

CALLS = 20_000  # of one round


def predictor(folder: Path, count: int) -> tuple[Predictor, Access, bytes]:
    """The door of a gateway that knows so many tokens, and the header of one of them."""
    settings = Settings(
        state_dir=folder,
        token=SecretStr("benchmark"),
        token_rate=1e9,
        token_concurrency=1000,
        models={"digits": Policy()},
    )
    access, made, secret = Access(settings), [], ""
    for number in range(count):
        key = secrets.token_hex(6)
        secret = f"{MARK}_{key}_{secrets.token_urlsafe(32)}"
        verbs, models = ("predict", "label"), ("digits",)
        made.append(
            Token(
                *(key, f"holder-{number}", hash_of(secret), verbs, models),
                *(utc_now(), "benchmark", None, None, None),
            )
        )
    access.know(made)
    fleet, metrics = Fleet(("digits",)), Metrics()
    batcher = Batcher(fleet, Spool(folder / "spool"), metrics, lambda _s, _d: None, utc_now)
    made_predictor = Predictor(
        access, fleet, batcher, metrics, max_body_bytes=1 << 20, max_rows=4096
    )
    return made_predictor, access, f"Bearer {secret}".encode()


def microseconds(call: Callable[[], object], rounds: int) -> float:
    """CPU time of one call."""
    found = []
    for _ in range(rounds + 1):
        began = time.thread_time()
        for _ in range(CALLS):
            call()
        found.append((time.thread_time() - began) / CALLS)
    return 1e6 * statistics.median(found[1:])


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        door, access, header = predictor(Path(folder), chosen.tokens)
        wanted = Wanted("digits", header, 400)
        whole = microseconds(lambda: door.enter(wanted), chosen.rounds)
        token = microseconds(lambda: access.check(header), chosen.rounds)
        nothing = microseconds(lambda: None, chosen.rounds)
    print(f"{chosen.tokens} tokens, median of {chosen.rounds} rounds of {CALLS} calls")
    print(f"the whole door: {whole - nothing:.2f} microseconds a request")
    print(f"of it the token: {token - nothing:.2f} microseconds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
