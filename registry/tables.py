"""The lifecycle database's tables, as typed SQLAlchemy 2 mappings, by what they are about.

Rows are the database's business: the functions of this room take and give frozen dataclasses,
so nothing outside holds a row that is tied to a session.
"""

from __future__ import annotations

from registry.columns import Table
from registry.evidence_tables import (
    DetectorStateRow,
    EvidenceRow,
    GatewayRow,
    InputCountRow,
    InputNumberRow,
    InputPartRow,
    LeaseRow,
)
from registry.incident_tables import (
    IncidentEventRow,
    IncidentRow,
    OutboxRow,
    RecoveryRow,
    RetrainRow,
    SignalRow,
)
from registry.ledger_tables import (
    ApprovalRow,
    EndedSessionRow,
    LedgerRow,
    OverrideRow,
    PauseRow,
    QuarantineRow,
    ReleaseRow,
    TokenRow,
    VerdictRow,
)
from registry.lineage_tables import EdgeRow, LineageRow, RegimeRow
from registry.log_tables import (
    BlockRow,
    HeldLabelRow,
    LabelCallRow,
    LabelRow,
    LossRevisionRow,
    LossRow,
    PredictionRow,
    ShadowRow,
    TrafficRow,
)

__all__ = [
    "ApprovalRow",
    "BlockRow",
    "DetectorStateRow",
    "EdgeRow",
    "EndedSessionRow",
    "EvidenceRow",
    "GatewayRow",
    "HeldLabelRow",
    "IncidentEventRow",
    "IncidentRow",
    "InputCountRow",
    "InputNumberRow",
    "InputPartRow",
    "LabelCallRow",
    "LabelRow",
    "LeaseRow",
    "LedgerRow",
    "LineageRow",
    "LossRevisionRow",
    "LossRow",
    "OutboxRow",
    "OverrideRow",
    "PauseRow",
    "PredictionRow",
    "QuarantineRow",
    "RecoveryRow",
    "RegimeRow",
    "ReleaseRow",
    "RetrainRow",
    "ShadowRow",
    "SignalRow",
    "Table",
    "TokenRow",
    "TrafficRow",
    "VerdictRow",
]
