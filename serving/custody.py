"""Keeps what has a role safe: pins it on this disk, and watches what MLflow loses of it.

Every gateway pins for itself; only the one that holds the lease opens incidents. It has a thread
of its own: a download, or an MLflow that hangs, must not hold up who follows the routing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

from homeostat.errors import HomeostatError, Unavailable
from registry.cache import ArtifactCache
from registry.custody import Pin, Pins, mend, pin_version
from registry.faults import AWAY, COPY, MODEL, POINTER, VERSION, Fault, Held, find_faults
from registry.release_history import ROLES, find_release
from registry.versions import MlflowVersions
from serving.background import in_background
from serving.lease import Lease
from serving.library import VERSIONS_FOLDER
from serving.parts import Parts
from serving.telling import Teller

DEEP_SECONDS = 3.0  # between looks at artifacts and runs; of the registry in between
AGAIN_SECONDS = 0.3  # a fault is believed when it is seen twice
AWAY_SECONDS = 5.0  # that MLflow may be silent before somebody hears of it
POINTER_SECONDS = 6.0  # that an alias may differ from the routing: the reconciler answers sooner
STAND_SECONDS = 5.0  # between looks at whether what stands is still told
VERIFY_SECONDS = 600.0  # between checks of the pinned copies
MEND_SECONDS = 10.0  # between tries to fetch a spoilt one again

logger = logging.getLogger(__name__)


class Custodian:
    """Pins, verifies and watches.

    Args:
        parts: The gateway's.
        store: MLflow's registry.
        lease: Only who holds it tells.
        teller: Opens incidents.
        pointers: Where each model's alias champion points is noted there.
        stopping: Ends the loop.
    """

    def __init__(
        self,
        parts: Parts,
        store: MlflowVersions,
        lease: Lease,
        teller: Teller,
        pointers: dict[str, int | None],
        stopping: threading.Event,
    ) -> None:
        self._parts = parts
        self._store = store
        self._lease = lease
        self._teller = teller
        self._pointers = pointers
        self._stopping = stopping
        self.cache = ArtifactCache(parts.settings.state_dir / VERSIONS_FOLDER)
        self.pins = Pins(self.cache)
        self._held: dict[str, list[Held]] = {}
        self._whole = {
            (model, pin.version): pin
            for model in parts.watches
            for pin in self.pins.of(model)
            if pin.role
        }
        self._copies: dict[str, dict[int, str]] = {model: {} for model in parts.watches}
        self._deep: dict[str, list[Fault]] = {}
        self._due: dict[str, float] = {}
        self._since: dict[str, float] = {}
        self._told: dict[str, list[Fault]] = {}
        self._verifying = threading.Lock()
        self._thread = in_background(self._run, "custody")

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """End after the look under way."""
        if self._thread.is_alive():
            self._thread.join(seconds)

    def held(self, model: str) -> list[Held]:
        """The versions that have a role now, the champion first.

        Raises:
            Unavailable: the database is away.
        """
        routing, digests = self._parts.intent(model)
        if routing is None:
            return []
        found = []
        for role in ROLES:
            version = getattr(routing, role)
            if version is not None:
                pin = self._whole.get((model, version)) or self.pins.find(model, version)
                digest = digests.get(version) or self.cache.digest_of(model, version) or ""
                found.append(Held(version, role, digest, pin.run_id if pin else ""))
        return found

    def look(self, model: str) -> None:
        """One look at a model: pin what has a role, and tell what MLflow lost of it.

        Raises:
            Unavailable: the database is away; what was last read of it is watched on.
        """
        try:
            self._held[model] = self.held(model)
        except Unavailable:
            if model not in self._held:
                raise
        held = self._held[model]
        if not held:
            return
        self._pin(model, held)
        spoilt = self._copies[model] and self._is_due(f"mend {model}", MEND_SECONDS)
        if self._is_due(f"verify {model}", VERIFY_SECONDS) or spoilt:
            self.verify(model)
        faults, known = self._faults(model, held)
        news = self._told.get(model) != faults
        # One that a person closed while it stands is opened again, though not in each look.
        again = faults and self._is_due(f"stand {model}", STAND_SECONDS)
        if self._lease.held and (news or again):
            self._teller.stand(model, faults, known)
            self._told[model] = faults
        if not self._lease.held:
            self._told.pop(model, None)  # who takes the lease compares with what is open

    def shown(self, model: str) -> list[dict[str, Any]]:
        """What is pinned of a model's roles, as it was last found.

        Raises:
            Unavailable: the database is away.
        """
        wrong = self._copies[model]
        return [
            view_of(one, self.pins.find(model, one.version), wrong.get(one.version, ""))
            for one in self.held(model)
        ]

    def verify(self, model: str) -> list[dict[str, Any]]:
        """Check the pinned copies of a model's roles, and fetch again what is spoilt.

        Returns:
            For each version with a role: what it is pinned for, and what is wrong, if anything.
        """
        with self._verifying:
            return [self._verify(model, one) for one in self.held(model)]

    def _verify(self, model: str, one: Held) -> dict[str, Any]:
        pin = self.pins.find(model, one.version)
        wrong = dict.fromkeys(("model",), "It is not pinned yet.") if pin is None else {}
        if pin is not None and (wrong := self.pins.faults(pin)):
            logger.warning("the pinned copy of %s:%d is spoilt: %s", model, one.version, wrong)
            try:
                wrong = mend(self._store, self.cache, pin)
            except (HomeostatError, OSError) as error:
                wrong = {
                    part: f"{why} It cannot be fetched: {error}" for part, why in wrong.items()
                }
            if not wrong:
                logger.info("the pinned copy of %s:%d was fetched again", model, one.version)
        told = " ".join(f"{part}: {why}" for part, why in sorted(wrong.items()))
        if pin is not None:
            self._note_copy(model, one, told)
        return view_of(one, pin, told)

    def _pin(self, model: str, held: Sequence[Held]) -> None:
        for one in held:
            known = self._whole.get((model, one.version))
            if known is not None and (known.digest, known.role) == (one.digest, one.role):
                continue
            if not one.digest or not self._is_due(f"pin {model}:{one.version}", DEEP_SECONDS):
                continue
            try:
                with self._parts.reading() as session:
                    release = find_release(session, model, one.version)
                generation = release.generation if release else 0
                now = self._parts.clock()
                self._whole[model, one.version] = pin_version(
                    self._store,
                    self.cache,
                    model,
                    one.version,
                    one.digest,
                    one.role,
                    generation,
                    now,
                )
            except OSError as error:
                self._note_copy(model, one, f"It cannot be kept on this disk: {error.strerror}.")
                continue
            except HomeostatError as error:
                logger.info("%s:%d is pinned later: %s", model, one.version, error)
                continue
            logger.info("%s:%d is pinned as %s", model, one.version, one.role)
            self._note_copy(model, one, "")
        self._let_go(model, held)

    def _let_go(self, model: str, held: Sequence[Held]) -> None:
        """What has no role any more keeps its copy until nobody needs it, but is not pinned."""
        present = {one.version for one in held}
        for key in [key for key in self._whole if key[0] == model and key[1] not in present]:
            self._copies[model].pop(key[1], None)
            self.pins.release(*key)
            del self._whole[key]

    def _note_copy(self, model: str, one: Held, wrong: str) -> None:
        self._parts.metrics.pinned.labels(model, one.role).set(0 if wrong else 1)
        if wrong:
            self._copies[model][one.version] = wrong
        else:
            self._copies[model].pop(one.version, None)

    def _faults(self, model: str, held: Sequence[Held]) -> tuple[list[Fault], set[str]]:
        """What is wrong now, and the subjects that could be looked at."""
        faults = [
            self._copy_fault(model, one) for one in held if one.version in self._copies[model]
        ]
        try:
            lost = self._lost(model, held)
        except Unavailable as error:
            away = self._lasting(f"away {model}", True, AWAY_SECONDS)
            if away:
                logger.info("custody of %s: %s", model, error)
                faults.append(_away(model, held[0]))
            return faults, {COPY, AWAY} if away else {COPY}
        self._lasting(f"away {model}", False, AWAY_SECONDS)
        faults += lost
        pointer = self._pointers.get(model)
        differs = pointer not in (None, held[0].version) and not lost
        if self._lasting(f"pointer {model}", differs, POINTER_SECONDS):
            faults.append(_misled(model, held[0], pointer or 0))
        self._parts.metrics.agrees.labels(model, POINTER).set(0 if differs else 1)
        known = {COPY, AWAY, MODEL, POINTER}
        # Of a model that is gone nothing is known of its versions: what stood about them stands.
        gone = any(fault.subject == MODEL for fault in lost)
        return faults, known if gone else known | {VERSION}

    def _lost(self, model: str, held: Sequence[Held]) -> list[Fault]:
        """What MLflow lost; a new loss is looked at twice before it is believed."""
        deep = self._is_due(f"deep {model}", DEEP_SECONDS)
        faults = self._read(model, held, deep=deep)
        if {fault.key for fault in faults} - {fault.key for fault in self._told.get(model, [])}:
            self._stopping.wait(AGAIN_SECONDS)
            seen = {fault.key for fault in faults}
            faults = [one for one in self._read(model, held, deep=True) if one.key in seen]
            self._deep[model] = [one for one in faults if one.subject == VERSION]
        return faults

    def _read(self, model: str, held: Sequence[Held], *, deep: bool) -> list[Fault]:
        aliases = self._store.registered(model)
        self._pointers[model] = (aliases or {}).get("champion")
        faults = find_faults(self._store, model, held, aliases, deep=deep)
        if deep:
            self._deep[model] = [one for one in faults if one.subject == VERSION]
            return faults
        fresh = {fault.key for fault in faults}
        if not any(fault.subject == MODEL for fault in faults):
            faults += [one for one in self._deep.get(model, []) if one.key not in fresh]
        return faults

    def _copy_fault(self, model: str, one: Held) -> Fault:
        wrong = self._copies[model][one.version]
        return Fault(
            COPY,
            one.version,
            f"The pinned copy of version {one.version} of {model} is not whole. {wrong}",
            one.grave,
            "free disk space or mend MLflow, and it is fetched again by itself; until then the "
            "loaded one is the last: do not restart every gateway.",
        )

    def _lasting(self, name: str, holds: bool, seconds: float) -> bool:
        """Whether something has held for so long."""
        if not holds:
            self._since.pop(name, None)
            return False
        return time.monotonic() - self._since.setdefault(name, time.monotonic()) >= seconds

    def _is_due(self, name: str, every: float) -> bool:
        now = time.monotonic()
        if now < self._due.get(name, now):
            return False
        self._due[name] = now + every
        return True

    def _run(self) -> None:
        troubled: set[str] = set()
        while not self._stopping.wait(self._parts.settings.poll_seconds):
            for model in self._parts.watches:
                try:
                    self.look(model)
                    troubled.discard(model)
                except HomeostatError as error:
                    if model not in troubled:
                        logger.info("custody of %s waits: %s", model, error)
                    troubled.add(model)
                except Exception:
                    if model not in troubled:
                        logger.exception("custody of %s failed", model)
                    troubled.add(model)


def view_of(one: Held, pin: Pin | None, wrong: str) -> dict[str, Any]:
    """A pin as it is shown."""
    return {
        "version": one.version,
        "role": one.role,
        "digest": one.digest,
        "release": pin.generation if pin else None,
        "parts": sorted(pin.seals) if pin else [],
        "since": pin.at.isoformat() if pin else None,
        "whole": pin is not None and not wrong,
        "wrong": wrong,
    }


def _away(model: str, champion: Held) -> Fault:
    return Fault(
        AWAY,
        champion.version,
        f"MLflow does not answer: what it holds of {model} is not known.",
        "ticket",
        "see that MLflow runs. Aliases and retrains wait for it; predictions do not.",
    )


def _misled(model: str, champion: Held, pointer: int) -> Fault:
    return Fault(
        POINTER,
        champion.version,
        f"MLflow's alias champion of {model} names version {pointer}; the routing and the answers "
        f"are of version {champion.version}.",
        "ticket",
        f"move the alias back, or: homeostat promote {model} --version {pointer} --reason 'why'",
    )
