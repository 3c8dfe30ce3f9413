"""Runs from a notebook: made as `calib run` makes them, or opened from their directories."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from calib.errors import InputError
from calib.later import pandas as pd
from jobs.config.schema import is_chain
from jobs.notebook import html
from jobs.notebook.configurations import Source, completed
from jobs.notebook.progress import shown
from jobs.notebook.result import Result, result_of
from jobs.progress import Progress
from jobs.run.chain import ChainRun, StepState
from jobs.run.run import Run


def run(
    config: Source, out: str | Path, *, progress: bool = True, earlier: str | Path | None = None
) -> Result | ChainResult:
    """Collect, reduce, test and report, as `calib run` does; return the result.

    Parameters
    ----------
    config : path, dict or Config
        Files in a dictionary are relative to the working directory.
    out : path
        Directory to make, or to go on in: what is done there is not done again.
    progress : bool
        Show how far it is.
    earlier : path, optional
        An earlier payload.json; the report says what moved.

    Returns
    -------
    Result
        Also where the verdict is not passed: look at ``passed``. Of a file with the key ``chain``
        the results of its steps, by name.

    Raises
    ------
    InputError
        If something about the configuration or the files is wrong, in one sentence.

    Examples
    --------
    >>> z = calib.run("z-2018.yaml", out="z-2018")  # doctest: +SKIP
    """
    before = None if earlier is None else Path(earlier)
    if isinstance(config, (str, Path)) and is_chain(Path(config)):
        with shown(progress) as tell:
            return run_chain(Path(config), Path(out), tell, before)
    values, calibration, where = completed(config)
    made = Run.of((values, calibration), Path(where), Path(out))
    with made.held("calib.run"), shown(progress) as tell:
        made.execute(tell, before)
    return result_of(made)


def open_result(directory: str | Path) -> Result | ChainResult:
    """Return the result that a finished run has left in a directory; of a chain, of each step.

    Raises
    ------
    InputError
        If it is not the directory of a run, or the run is not finished.

    Examples
    --------
    >>> z = calib.open_result("z-2018")  # doctest: +SKIP
    >>> z.to_dataframe()[["category", "factor", "factor_err", "status"]]  # doctest: +SKIP
    """
    path = Path(directory)
    if is_chain(path):
        return open_chain(path)
    return result_of(Run.resume(path))


# chains -------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class ChainResult(Mapping[str, Result]):
    """What the steps of a chain found: ``chain["scale"]`` is the result of a step.

    Parameters
    ----------
    directory : Path
    results : mapping of name to Result
        Of the steps that have one, in their order.
    states : tuple of StepState
        What became of each step.
    """

    directory: Path
    results: Mapping[str, Result]
    states: tuple[StepState, ...]

    def __getitem__(self, name: str) -> Result:
        """Return the result of a step."""
        if name not in self.results:
            raise InputError(
                f"{self.directory}: no result of a step {name!r}; there are"
                f" {', '.join(self.results) or 'none'}"
            )
        return self.results[name]

    def __contains__(self, name: object) -> bool:
        return name in self.results

    def __iter__(self) -> Iterator[str]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    @property
    def passed(self) -> bool:
        """Whether every step has passed."""
        return all(step.passed for step in self.states)

    def to_dataframe(self) -> pd.DataFrame:
        """Return one row a step: ``step, calibration, outcome, why``."""
        rows = [(s.name, s.calibration, s.outcome, s.why) for s in self.states]
        return pd.DataFrame(rows, columns=["step", "calibration", "outcome", "why"])

    def _repr_html_(self) -> str:
        n = sum(step.passed for step in self.states)
        return html.block(
            f"Chain in {self.directory}",
            html.verdict(self.passed, f"{n} of {len(self.states)} steps"),
            html.table(self.to_dataframe()),
            *(result._repr_html_() for result in self.results.values()),
        )


def open_chain(directory: Path) -> ChainResult:
    """Return the results that a chain has left in its directory."""
    chain = ChainRun.resume(directory)
    own = [(step.name, chain.run_of(step)) for step in chain.steps]
    results = {name: result_of(run) for name, run in own if run.directory.marker("report")}
    return ChainResult(directory, results, tuple(chain.states()))


def run_chain(path: Path, out: Path, progress: Progress, earlier: Path | None) -> ChainResult:
    """Run a chain, as `calib run` does; return the results of its steps.

    Parameters
    ----------
    path : Path
        Configuration.
    out : Path
        Directory.
    progress : callable
        Told how far it is.
    earlier : Path or None
        A payload to compare with.

    Returns
    -------
    ChainResult
        Of the steps that have one.
    """
    chain = ChainRun.prepare(path, out)
    with chain.held("calib.run"):
        chain.execute(progress, earlier)
    return open_chain(out)
