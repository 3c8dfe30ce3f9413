"""Runs from a notebook: made as `calib run` makes them, or opened from their directories."""

from __future__ import annotations

from pathlib import Path

from jobs.config.schema import is_chain
from jobs.notebook.chains import ChainResult, open_chain, run_chain
from jobs.notebook.configurations import Source, completed
from jobs.notebook.progress import shown
from jobs.notebook.result import Result, result_of
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
