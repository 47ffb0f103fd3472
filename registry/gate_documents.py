"""The gate `documents`: card and bill of materials are there, whole, and about this artifact.

They are judged as drafted, before the verdict that the card will show: a verdict cannot wait for
a card that waits for the verdict. What is added afterwards is that verdict and the number.
"""

from __future__ import annotations

from registry.documents import BOM_FILE, CARD_FILE, bom_faults, card_faults
from registry.gate_evidence import Evidence
from registry.verdicts import GateFigure


def documents(evidence: Evidence) -> GateFigure | None:
    """As many faults as the two documents have; none is allowed."""
    given, digest = evidence.documents, evidence.candidate.digest
    if given is None:
        return None
    faults = [
        *card_faults(given.get(CARD_FILE, ""), digest),
        *bom_faults(given.get(BOM_FILE, ""), digest),
    ]
    whole = "Card and bill of materials are whole and about this artifact."
    return GateFigure("documents", float(len(faults)), 0.0, not faults, " ".join(faults) or whole)
