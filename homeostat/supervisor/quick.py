"""A quick start for servers whose imports make a million objects that stay."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

# Python looks for garbage each time 700 objects have come: while modules are imported nearly all
# of them stay, and looking costs a tenth of the start. Rarely is enough for a server, too: what
# it frees is freed by counting references.
_OBJECTS = 50_000


def collect_rarely() -> None:
    """Look for cyclic garbage a lot less often, in this process, from now on."""
    gc.set_threshold(_OBJECTS, 20, 20)


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Look for cyclic garbage a lot less often in this block only."""
    before = gc.get_threshold()
    collect_rarely()
    try:
        yield
    finally:
        gc.set_threshold(*before)
