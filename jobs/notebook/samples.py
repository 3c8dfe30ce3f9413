"""A sample that is opened: what its files hold, its selected pairs, its histograms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calib.calibrations.base import Calibration
from calib.errors import InputError
from calib.events.histograms import Sums, add
from calib.events.pairs import Muons, Pairs
from calib.later import pandas as pd
from calib.results import MAIN, Pass
from calib.schema import Sample
from jobs.config.schema import Config
from jobs.event_loop.loop import work_item
from jobs.events.files import Chunk, Inspection, chunk_size, chunks, inspect
from jobs.notebook import html
from jobs.notebook.configurations import Source, completed, is_configuration, of_files
from jobs.notebook.histograms import as_hists
from processors.calibration import CalibrationProcessor
from processors.fill import fill
from processors.readers.chunk import FileEntries, entries_of, selected
from processors.selection import ResolvedSelection, leave_out

if TYPE_CHECKING:
    import hist


@dataclass(frozen=True, eq=False)
class OpenSample:
    """One sample of a configuration, its files opened once.

    Parameters
    ----------
    config : Config
    calibration : Calibration
        Of the configuration: its selection is made, its histograms are filled.
    sample : Sample
    inspection : Inspection
        What the files are, and the selection with every default filled in.
    """

    config: Config
    calibration: Calibration
    sample: Sample
    inspection: Inspection

    # what it is --------------------------------------------------------------------------------
    @property
    def files(self) -> pd.DataFrame:
        """One row a file: ``path, events, bytes, uuid``."""
        own = [f for f in self.inspection.files if f.sample == self.sample.name]
        rows = [(f.path, f.n_events, f.size, f.uuid) for f in own]
        return pd.DataFrame(rows, columns=["path", "events", "bytes", "uuid"])

    @property
    def n_events(self) -> int:
        """Number of events in the files."""
        return int(self.files["events"].sum())

    @property
    def selection(self) -> ResolvedSelection:
        """The cuts of the calibration, with what the configuration says of them."""
        return self.inspection.selections[self.sample.name]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the files do not have, and what stands in for it."""
        return self.inspection.notes

    @property
    def walk(self) -> Pass:
        """The first pass over the events, as production makes it."""
        n_events: Counter[str] = Counter()
        for file in self.inspection.files:
            n_events[file.sample] += file.n_events
        return self.calibration.sized(MAIN, dict(n_events))

    # events ------------------------------------------------------------------------------------
    def chunks(self) -> list[Chunk]:
        """Return the chunks that production would read."""
        found = chunks(self.inspection, chunk_size(self.config, self.inspection))
        return [c for c in found if c.sample == self.sample.name]

    def read(self, chunk: Chunk) -> tuple[Pairs, dict[str, int]]:
        """Return the pairs of a chunk that the calibration uses, and why others are left out."""
        return self.select(entries_of(work_item(chunk)))

    def select(self, events: Any) -> tuple[Pairs, dict[str, int]]:
        """Return the pairs of some events that the calibration uses, and why others are left out.

        Parameters
        ----------
        events : NanoEvents or awkward array of records
            Those that are given, changed muons and all; nothing is read from the files.

        Raises
        ------
        InputError
            If the events lack a column, or the runs of the files are not all used.

        Examples
        --------
        >>> z = calib.open_sample("toys/*.root", resonance="z")  # doctest: +SKIP
        >>> events["Muon", "pt"] = events.Muon.pt * 1.001  # doctest: +SKIP
        >>> pairs, rejected = z.select(events)  # doctest: +SKIP
        """
        if not isinstance(events, FileEntries):
            self._require_all_runs()
        found = selected(
            events,
            self.sample,
            self.calibration.needs(self.sample),
            self.selection,
            self.inspection.corrections.get(self.sample.name, ()),
        )
        pairs, refused = leave_out(found.pairs, self.calibration.rejects(found.pairs, self.sample))
        return pairs, found.rejected | refused

    def _require_all_runs(self) -> None:
        """Raise InputError where files hold runs that are not used: events know no file."""
        for file in self.inspection.files:
            if file.sample == self.sample.name and file.runs is not None:
                raise InputError(
                    f"{file.path}: sample {self.sample.name!r} uses some runs of it alone, which"
                    " is not known of events in memory; select the runs there, and open the sample"
                    " from files"
                )

    def pairs(self, events: int | None = None) -> Pairs:
        """Return the selected pairs, of the first ``events`` events of the files or of all."""
        return joined([pairs for pairs, _ in self._walked(events)])

    def to_dataframe(self, events: int | None = None) -> pd.DataFrame:
        """Return the selected pairs, one row each, columns named as in stage1."""
        return frame(self.pairs(events))

    def counts(self, events: int | None = None) -> pd.Series:
        """Return where the events went: ``selected``, and the reasons of the others."""
        tally: Counter[str] = Counter(selected=0)
        for pairs, rejected in self._walked(events):
            tally["selected"] += len(pairs)
            tally.update(rejected)
        return pd.Series(tally, name="events")

    def _walked(self, events: int | None) -> Iterator[tuple[Pairs, dict[str, int]]]:
        left = self.n_events if events is None else events
        for chunk in self.chunks():
            stop = min(chunk.stop, chunk.start + left)
            if stop > chunk.start or not left:
                yield self.read(Chunk(chunk.sample, chunk.file, chunk.start, stop))
            left -= stop - chunk.start
            if left <= 0:
                return

    def processor(self) -> CalibrationProcessor:
        """Return coffea's processor of this sample: for a Runner, or for events of your own.

        Raises
        ------
        InputError
            If the runs of the files are not all used.

        Examples
        --------
        >>> z = calib.open_sample("toys/*.root", resonance="z")  # doctest: +SKIP
        >>> events = NanoEventsFactory.from_root({"toys/a.root": "Events"}).events()
        ... # doctest: +SKIP
        >>> events["Muon", "pt"] = events.Muon.pt * 1.001  # doctest: +SKIP
        >>> z.processor().process(events)["data"]["counts"]  # doctest: +SKIP
        """
        self._require_all_runs()
        name = self.sample.name
        return CalibrationProcessor(
            self.calibration,
            {name: self.sample},
            {name: self.selection},
            self.walk,
            {name: self.inspection.corrections.get(name, ())},
        )

    # histograms --------------------------------------------------------------------------------
    def collect(self, pairs: Pairs) -> Sums:
        """Return the sums of some pairs, by the same functions as in production."""
        return fill(self.calibration.collect(pairs, self.sample, self.walk))

    def histograms(self, events: int | None = None) -> dict[str, hist.Hist]:
        """Return the histograms of the calibration, by name, filled here and now."""
        sums = add(self.collect(pairs) for pairs, _ in self._walked(events))
        return as_hists(sums, self.calibration.layout(self.sample))

    def _repr_html_(self) -> str:
        cuts = {
            k: v
            for k, v in vars(self.selection).items()
            if v not in (None, ()) and k != "certified"
        }
        asked = pd.DataFrame({"selection": map(str, cuts.values())}, index=list(cuts))
        return html.block(
            f"Sample {self.sample.name}: {self.n_events} events of {self.sample.resonance}",
            html.words(
                f"{self.sample.format}{', simulation' if self.sample.simulation else ''}, for"
                f" {self.config.calibration}"
            ),
            html.table(self.files),
            html.table(asked, index=True),
            html.notes(self.notes),
        )


def open_sample(
    source: Source | str | Path | Sequence[str | Path], sample: str | None = None, **keys: Any
) -> OpenSample:
    """Return a sample to look at; every file is opened once, no event is read.

    Parameters
    ----------
    source : path, dict, Config, or names of files
        A configuration (``z-2018.yaml``, or its values), or files with events: a name, a glob, a
        directory, or several.
    sample : str, optional
        Of the configuration: the name of the sample; by default its first.
    **keys
        Of files: ``resonance="z"``, ``simulation=False``, ``calibration``, ``format``, ``name``,
        and any key of a configuration (``selection={...}``, ``settings={...}``).

    Raises
    ------
    InputError
        If something about the files or the configuration is wrong, in one sentence.

    Examples
    --------
    >>> z = calib.open_sample("toys/*.parquet", resonance="z")  # doctest: +SKIP
    >>> z.to_dataframe(events=100_000)["dimuon_mass"].hist()  # doctest: +SKIP
    """
    if is_configuration(source):
        if keys:
            raise InputError(
                f"open_sample: {', '.join(keys)} given beside a configuration; change it there"
            )
        values: Any = source
    else:
        values = of_files(source, name=sample or keys.pop("name", "data"), **keys)  # type: ignore[arg-type]
        sample = None
    config, calibration, where = completed(values)
    own = _named(config, sample, where)
    return OpenSample(config, calibration, own, inspect(config, calibration, Path.cwd()))


def _named(config: Config, name: str | None, where: str) -> Sample:
    for sample in config.samples:
        if name in (None, sample.name):
            return sample
    known = ", ".join(s.name for s in config.samples)
    raise InputError(f"{where}: there is no sample {name!r}; it has {known}")


def joined(parts: Sequence[Pairs]) -> Pairs:
    """Return the pairs of several chunks one after the other."""
    import numpy as np

    def both(values: Sequence[Any]) -> Any:
        if values[0] is None:
            return None
        if isinstance(values[0], Mapping):
            return {name: np.concatenate([v[name] for v in values]) for name in values[0]}
        if isinstance(values[0], Muons):
            names = Muons.__dataclass_fields__
            return Muons(**{n: both([getattr(v, n) for v in values]) for n in names})
        return np.concatenate(values)

    names = Pairs.__dataclass_fields__
    found = Pairs(**{n: both([getattr(p, n) for p in parts]) for n in names})
    return found.with_mass(both([p.mass for p in parts]))


def frame(pairs: Pairs) -> pd.DataFrame:
    """Return pairs as a table, with the columns of stage1."""
    columns: dict[str, Any] = {n: getattr(pairs, n) for n in ("run", "luminosityBlock", "event")}
    names = {
        "pt": "pt",
        "eta": "eta",
        "phi": "phi",
        "pt_err": "ptErr",
        "charge": "charge",
        "gen_pt": "gen_pt",
        "gen_eta": "gen_eta",
        "gen_phi": "gen_phi",
    }
    for i, muons in ((1, pairs.leading), (2, pairs.subleading)):
        for name, column in names.items():
            if getattr(muons, name) is not None:
                columns[f"mu{i}_{column}"] = getattr(muons, name)
        columns |= {f"mu{i}_{name}": values for name, values in muons.extra.items()}
    columns |= {"dimuon_mass": pairs.mass, "wgt_nominal": pairs.weight}
    if pairs.gen_mass is not None:
        columns["gen_dimuon_mass"] = pairs.gen_mass
    return pd.DataFrame(columns)
