"""The same calibrations from Python, for notebooks: what ``import calib`` gives.

Nothing here calibrates: it opens samples, runs the steps that the commands run, and hands out
frozen results to look at. Errors are the sentences of the commands, as exceptions.
"""

from jobs.notebook.comparison import Comparison
from jobs.notebook.lazy import LazySample, open_lazy
from jobs.notebook.result import Result, compare
from jobs.notebook.running import open_result, run
from jobs.notebook.samples import OpenSample, open_sample
from jobs.notebook.toys import write_toys

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
