"""What a calibration of one's own is made of, in one place to import from.

See docs/write-a-calibration.md, and `calib.calibrations.base` for the contract.
"""

from calib.calibrations.base import Calibration, Needs, TableCalibration
from calib.calibrations.capabilities import (
    AddsColumns,
    Closes,
    ClosesInHalves,
    CorrectsMuons,
    CorrectsPairs,
    Edits,
    Exports,
    HasTruth,
    Iterates,
    kind_of,
)
from calib.errors import InputError
from calib.events.categories import Axis, Categories
from calib.events.histograms import Fill, Layout, Sums, add
from calib.events.pairs import Muons, Pairs
from calib.events.records import Records
from calib.payload.nodes import evaluate_at
from calib.payload.parameters import Formula, Payload, StatusTable, Table, Term, of_muons
from calib.results import MAIN, Check, Closure, Curve, Parameters, Pass, Reduction, Section, Status
from calib.schema import Sample, Strict

__all__ = [
    "MAIN",
    "AddsColumns",
    "Axis",
    "Calibration",
    "Categories",
    "Check",
    "Closes",
    "ClosesInHalves",
    "Closure",
    "CorrectsMuons",
    "CorrectsPairs",
    "Curve",
    "Edits",
    "Exports",
    "Fill",
    "Formula",
    "HasTruth",
    "InputError",
    "Iterates",
    "Layout",
    "Muons",
    "Needs",
    "Pairs",
    "Parameters",
    "Pass",
    "Payload",
    "Records",
    "Reduction",
    "Sample",
    "Section",
    "Status",
    "StatusTable",
    "Strict",
    "Sums",
    "Table",
    "TableCalibration",
    "Term",
    "add",
    "evaluate_at",
    "kind_of",
    "of_muons",
]
