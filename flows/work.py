"""The name of a piece of work: the same work has the same key, however often it is started."""

from __future__ import annotations

import hashlib
import json

KEY_LENGTH = 32  # 128 bits: two different works never share a key


def work_key(**parts: object) -> str:
    """The key of the work that `parts` describe: their SHA-256 as JSON, shortened.

    A flow run that was killed and started again has the same parts, so it finds what the first
    one left and goes on from there.

    Args:
        parts: Everything that the outcome depends on, as plain JSON values.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]
