"""The same calibrations from Python, for notebooks: what ``import calib`` gives.

Nothing here calibrates: it opens samples, runs the steps that the commands run, and hands out
frozen results to look at. Errors are the sentences of the commands, as exceptions.
"""

from jobs.interactive.comparison import Comparison, compare
from jobs.interactive.lazy import LazySample, open_lazy
from jobs.interactive.opening import open_result
from jobs.interactive.result import Result
from jobs.interactive.running import run
from jobs.interactive.samples import OpenSample, open_sample
from jobs.interactive.toys import write_toys

__all__ = [
    "Comparison",
    "LazySample",
    "OpenSample",
    "Result",
    "compare",
    "open_lazy",
    "open_result",
    "open_sample",
    "run",
    "write_toys",
]
