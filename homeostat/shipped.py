"""Files that come with Homeostat and are no Python package: migrations and runbooks."""

from __future__ import annotations

import sys
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parent.parent
_INSTALLED = Path(sys.prefix) / "share" / "homeostat"  # where a wheel puts them


def shipped(name: str, file: str, checkout: Path = _CHECKOUT, installed: Path = _INSTALLED) -> Path:
    """A folder that comes with Homeostat: the checkout's, else the installed wheel's.

    Args:
        name: As it is called in the checkout, such as `alembic` or `docs/runbooks`.
        file: One that it has: where a wheel is installed, the library `alembic` has a folder of
            the same name beside our packages.
        checkout: Where a checkout has it.
        installed: Where a wheel puts it, by the last part of its name.

    Returns:
        The folder; that of the checkout where neither has the file.
    """
    places = checkout / name, installed / Path(name).name
    return next((place for place in places if (place / file).is_file()), places[0])
