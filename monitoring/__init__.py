"""What watches: profiles, detectors, sequential tests, reports, alert delivery."""

from monitoring.alerts import Alert, DeliveryFailed, masked
from monitoring.columns import Column
from monitoring.exact import holm, p_at_least
from monitoring.guilt import FeatureEvidence
from monitoring.inputs import InputDetector
from monitoring.losses import LossDetector, LossReference
from monitoring.paired import PairedOutcome, compare_losses
from monitoring.profile import LossSummary, Profile
from monitoring.report import BatchReport, batch_report
from monitoring.sequential import GuardDetector, PairedTest, mean_interval
from monitoring.signals import Signal, Triage, read_signal, triage
from monitoring.timeline import (
    AccuracyPoint,
    EvidencePoint,
    IncidentNote,
    LedgerLine,
    Mark,
    ReleaseNote,
    SharePoint,
    Timeline,
    VersionNote,
    draw,
    write_page,
)

__all__ = [
    "AccuracyPoint",
    "Alert",
    "BatchReport",
    "Column",
    "DeliveryFailed",
    "EvidencePoint",
    "FeatureEvidence",
    "GuardDetector",
    "IncidentNote",
    "InputDetector",
    "LedgerLine",
    "LossDetector",
    "LossReference",
    "LossSummary",
    "Mark",
    "PairedOutcome",
    "PairedTest",
    "Profile",
    "ReleaseNote",
    "SharePoint",
    "Signal",
    "Timeline",
    "Triage",
    "VersionNote",
    "batch_report",
    "compare_losses",
    "draw",
    "holm",
    "masked",
    "mean_interval",
    "p_at_least",
    "read_signal",
    "triage",
    "write_page",
]
