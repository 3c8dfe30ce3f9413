"""Events that are looked at lazily with dask-awkward: the selection and ``collect`` of production.

When to use: to explore; production walks over the events many times faster (`calib.run`). Each
partition is a chunk of production, read and selected by the same functions, so histograms of
all pairs are the same bin for bin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np

from calib.errors import InputError
from calib.events.histograms import Sums, add
from calib.events.pairs import Muons, Pairs
from jobs.events.files import Chunk
from jobs.notebook import html
from jobs.notebook.histograms import as_hists
from jobs.notebook.samples import OpenSample, open_sample

if TYPE_CHECKING:
    import dask_awkward
    import hist
    from dask.delayed import Delayed

MUON = ("pt", "eta", "phi", "charge", "pt_err", "gen_pt", "gen_eta", "gen_phi")
EVENT = ("weight", "run", "luminosityBlock", "event", "gen_mass")


@dataclass(frozen=True, eq=False)
class LazySample:
    """A sample whose events are read when something is computed of them.

    Parameters
    ----------
    opened : OpenSample
        The files, the selection, the calibration.
    pairs : dask_awkward.Array
        The selected pairs: ``leading`` and ``subleading`` muons (``pt, eta, phi, charge``,
        ``pt_err`` and ``gen_...`` where there are any), ``mass``, ``weight``, ``run``,
        ``luminosityBlock``, ``event``; GeV.
    """

    opened: OpenSample
    pairs: dask_awkward.Array

    @property
    def events(self) -> dask_awkward.Array:
        """All events with all their columns, before any cut."""
        files = self.opened.files["path"].tolist()
        if self.opened.sample.format == "stage1":
            import dask_awkward

            return dask_awkward.from_parquet(files)
        import uproot

        return uproot.dask({file: "Events" for file in files}, steps_per_file=1)

    def select(self, events: dask_awkward.Array) -> dask_awkward.Array:
        """Return the selected pairs of events that you have changed, like `pairs`.

        Parameters
        ----------
        events : dask_awkward.Array
            `events` with muons of your own, or fewer of them; all their columns are read.

        Returns
        -------
        dask_awkward.Array
            Pairs.

        Examples
        --------
        >>> events = z.events  # doctest: +SKIP
        >>> events["Muon_pt"] = events.Muon_pt * 1.001  # doctest: +SKIP
        >>> z.histograms(z.select(events))["mass"]  # doctest: +SKIP
        """
        import dask
        import dask_awkward

        part = dask.delayed(_selected, pure=True)
        parts = [part(p, self.opened) for p in events.to_delayed()]
        return dask_awkward.from_delayed(parts, meta=self.pairs._meta)

    def collect(self, pairs: dask_awkward.Array | None = None) -> Delayed:
        """Return the sums of the pairs, or of some of them, when they are computed.

        Parameters
        ----------
        pairs : dask_awkward.Array, optional
            Those of this sample with a cut of yours: ``z.pairs[z.pairs.mass > 90]``; by default
            all.

        Returns
        -------
        Delayed
            Of a mapping of name to array.
        """
        import dask

        chosen = self.pairs if pairs is None else pairs
        part = dask.delayed(_sums_of, pure=True)
        return dask.delayed(_added)([part(p, self.opened) for p in chosen.to_delayed()])

    def histograms(self, pairs: dask_awkward.Array | None = None) -> dict[str, hist.Hist]:
        """Return the histograms of the calibration, by name: what `calib.run` sums up.

        Parameters
        ----------
        pairs : dask_awkward.Array, optional
            As of `collect`.

        Returns
        -------
        dict of str to hist.Hist
            With weighted storage.
        """
        sums: Sums = self.collect(pairs).compute()
        return as_hists(sums, self.opened.calibration.layout(self.opened.sample))

    def _repr_html_(self) -> str:
        fields = ", ".join(self.pairs.fields)
        return html.block(
            f"Lazy sample {self.opened.sample.name}: {self.pairs.npartitions} partitions",
            html.words(f"pairs: {fields}; leading: {', '.join(self.pairs.leading.fields)}"),
            self.opened._repr_html_(),
        )


def open_lazy(source: Any, sample: str | None = None, **keys: Any) -> LazySample:
    """Return a sample whose selected pairs are a dask-awkward array; needs the extra ``lazy``.

    Parameters
    ----------
    source : path, dict, Config, or names of files
        As of `open_sample`.
    sample : str, optional
        As of `open_sample`.
    **keys : Any
        As of `open_sample`.

    Returns
    -------
    LazySample
        No event is read.

    Raises
    ------
    InputError
        As `open_sample`; or if dask-awkward is not there, or does not go with this dask.

    Examples
    --------
    >>> z = calib.open_lazy("toys/*.parquet", resonance="z")  # doctest: +SKIP
    >>> central = z.pairs[abs(z.pairs.leading.eta) < 0.9]  # doctest: +SKIP
    >>> z.histograms(central)["mass"]  # doctest: +SKIP
    """
    dak = _dask_awkward()
    opened = open_sample(source, sample, **keys)
    pieces = opened.chunks()
    return LazySample(
        opened,
        dak.from_map(_Read(opened), pieces, meta=_meta(opened, pieces), label="selected-pairs"),
    )


def _dask_awkward() -> Any:
    """Return dask-awkward, if it works with the dask that is there.

    With a newer dask it fails later, and not always aloud.
    """
    import dask

    try:
        import dask_awkward
        import dask_histogram  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"calib.open_lazy: {error.name} is not installed; pip install 'dimucal[lazy]' in an"
            " environment of its own, since it brings dask 2025.3 (constraints-lazy.txt)"
        ) from None
    version = tuple(int(x) for x in dask.__version__.split(".")[:2])
    if version >= (2025, 4):
        raise InputError(
            f"calib.open_lazy: found dask {dask.__version__}, with which dask-awkward does not"
            " work, expected one below 2025.4; pip install 'dask<2025.4' 'distributed<2025.4'"
        )
    return dask_awkward


@dataclass(frozen=True, eq=False)
class _Read:
    """Reads the selected pairs of a chunk."""

    opened: OpenSample

    def __call__(self, chunk: Chunk) -> ak.Array:
        return as_array(self.opened.read(chunk)[0])


def _meta(opened: OpenSample, pieces: Sequence[Chunk]) -> ak.Array:
    """Return the type of the pairs: that of the first events, which are read."""
    first = pieces[0]
    few = Chunk(first.sample, first.file, first.start, min(first.stop, first.start + 1))
    layout = as_array(opened.read(few)[0]).layout
    return ak.Array(layout.to_typetracer(forget_length=True))


def as_array(pairs: Pairs) -> ak.Array:
    """Return pairs as an awkward array of records."""
    own = {n: getattr(pairs, n) for n in EVENT if getattr(pairs, n) is not None}
    muons = {n: _muons(getattr(pairs, n)) for n in ("leading", "subleading")}
    return ak.zip({**muons, "mass": pairs.mass, **own}, depth_limit=1)


def _muons(muons: Muons) -> ak.Array:
    own = {n: getattr(muons, n) for n in MUON if getattr(muons, n) is not None}
    return ak.zip({**own, **muons.extra}, depth_limit=1)


def as_pairs(array: ak.Array) -> Pairs:
    """Return the pairs in an awkward array of records.

    Parameters
    ----------
    array : awkward array, length n
        With the fields of `LazySample.pairs`.

    Returns
    -------
    Pairs
        n of them, GeV.
    """
    own = {n: np.asarray(array[n]) for n in EVENT if n in array.fields}
    leading, subleading = (_as_muons(array[n]) for n in ("leading", "subleading"))
    return Pairs(leading, subleading, **own).with_mass(np.asarray(array["mass"]))


def _as_muons(array: ak.Array) -> Muons:
    own: Mapping[str, Any] = {n: np.asarray(array[n]) for n in array.fields}
    extra = {n: column for n, column in own.items() if n not in MUON}
    return Muons(**{n: c for n, c in own.items() if n in MUON}, extra=extra)


def _selected(events: ak.Array, opened: OpenSample) -> ak.Array:
    return as_array(opened.select(events)[0])


def _sums_of(array: ak.Array, opened: OpenSample) -> Sums:
    return opened.collect(as_pairs(array))


def _added(parts: Sequence[Sums]) -> Sums:
    return add(parts)
