"""Typed clients of the gateway.

`Client` and `AsyncClient` ask for predictions and send labels; they need httpx and nothing else of
what Homeostat is made of. `Gateway` is what the command line acts with.
"""

from homeostat.client.answers import Labelled, Prediction, error_of
from homeostat.client.callers import AsyncClient, Client
from homeostat.client.gateway import RESTORE_SECONDS, Gateway, caller

__all__ = [
    "RESTORE_SECONDS",
    "AsyncClient",
    "Client",
    "Gateway",
    "Labelled",
    "Prediction",
    "caller",
    "error_of",
]
