"""Checks for anyone's own ops and cells: gradients against finite differences, whole cells, where a NaN was born."""

from .anomaly import detect_anomaly
from .cells import check_cell
from .gradients import GradcheckReport, Mismatch, gradcheck
from .report import CellReport, Finding
