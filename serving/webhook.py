"""MLflow's webhook, as a hint to look now; what it says is never believed.

Deliveries come late, twice, in the wrong order or not at all, so the only use of one is to look
before the next poll would. It is verified all the same: who may wake the gateway may keep it busy.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import timedelta

from homeostat.clock import Clock
from homeostat.errors import Unauthorized
from serving.handlers import NotFound
from serving.writeback import TAG

PATH = "/v1/webhooks/mlflow"
ID, STAMP, SIGNATURE = "x-mlflow-delivery-id", "x-mlflow-timestamp", "x-mlflow-signature"
SCHEME = "v1,"
WINDOW = timedelta(seconds=300)  # a retry carries the first attempt's time
LONGEST_BODY = 256 * 1024  # a tag of MLflow has up to 100,000 characters
LONGEST_ID = 200
REMEMBERED = 10_000  # deliveries of one window; only signed ones are


class Webhook:
    """Verifies deliveries and wakes the controller.

    Args:
        secret: That the webhook was registered with; empty: there is no such route.
        clock: The present moment.
        wake: Lets the controller look now.
    """

    def __init__(self, secret: str, clock: Clock, wake: Callable[[], None]) -> None:
        self._secret = secret.encode()
        self._clock = clock
        self._wake = wake
        self._seen: OrderedDict[str, float] = OrderedDict()  # when, by delivery id
        self._lock = threading.Lock()

    def check_open(self) -> None:
        """Refuse before anything is read.

        Raises:
            NotFound: no secret is set.
        """
        if not self._secret:
            raise NotFound(
                f"There is nothing at {PATH}: no webhook_secret is set.",
                remedy="Set HOMEOSTAT_WEBHOOK_SECRET to take MLflow's webhook as a hint.",
            )

    def take(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Verify one delivery; whether it woke the controller.

        A delivery that came already, or that tells of a tag of our own, wakes nobody.

        Args:
            headers: By their names in small letters.
            body: As it came, byte by byte.

        Raises:
            NotFound: no secret is set.
            Unauthorized: the signature is not ours, or the delivery is not of now.
        """
        self.check_open()
        delivery, stamp = headers.get(ID, ""), headers.get(STAMP, "")
        self._verify(delivery, stamp, headers.get(SIGNATURE, ""), body)
        now = self._clock().timestamp()
        if not stamp.isascii() or not stamp.isdigit() or not _is_near(float(stamp), now):
            raise Unauthorized(
                f"The delivery is of another time than now ({stamp[:32]!r}).",
                remedy="Set the clocks of both machines; a delivery is good for 300 s.",
            )
        if not self._is_new(delivery, now) or _is_our_own(body):
            return False
        self._wake()
        return True

    def _verify(self, delivery: str, stamp: str, signature: str, body: bytes) -> None:
        signed = f"{delivery}.{stamp}.".encode() + body
        expected = hmac.new(self._secret, signed, hashlib.sha256).digest()
        try:
            given = base64.b64decode(signature.removeprefix(SCHEME), validate=True)
        except (binascii.Error, ValueError):
            given = b""
        fits = hmac.compare_digest(given, expected)
        if not fits or not signature.startswith(SCHEME) or not 0 < len(delivery) <= LONGEST_ID:
            raise Unauthorized(
                "The delivery is not signed with this gateway's webhook_secret.",
                remedy="Register the webhook in MLflow with the same secret.",
            )

    def _is_new(self, delivery: str, now: float) -> bool:
        with self._lock:
            while self._seen and (
                len(self._seen) >= REMEMBERED
                or now - next(iter(self._seen.values())) > 2 * WINDOW.total_seconds()
            ):
                self._seen.popitem(last=False)
            if delivery in self._seen:
                return False
            self._seen[delivery] = now
            return True


def _is_near(stamp: float, now: float) -> bool:
    return abs(now - stamp) <= WINDOW.total_seconds()


def _is_our_own(body: bytes) -> bool:
    """Whether it tells of a tag that we wrote: waking for those would never end."""
    try:
        said = json.loads(body)
        return str(said["entity"]) == "model_version_tag" and str(said["data"]["key"]).startswith(
            TAG
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
