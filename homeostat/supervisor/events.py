"""What the supervisor tells while it works, to a person or through a pipe."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal, Self

Kind = Literal["starting", "ready", "ended", "restarting", "up", "stopping", "failed"]


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Args:
        kind: `up` when everything is ready, `failed` when the start was given up.
        part: The server it is about; empty for `up`, `stopping` and `failed`.
        text: What to tell: an address, a cause.
        remedy: For `failed`: what to do.
        seconds: Since the start of `up`.
        code: For `failed`: the code of the error.
        log_lines: For `failed`: the last lines of the log of the server that failed.
    """

    kind: Kind
    part: str = ""
    text: str = ""
    remedy: str = ""
    seconds: float = 0.0
    code: str = ""
    log_lines: tuple[str, ...] = ()

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Self:
        """The event that `to_json` wrote."""
        fields = json.loads(line)
        return cls(**{**fields, "log_lines": tuple(fields["log_lines"])})


Tell = Callable[[Event], None]
