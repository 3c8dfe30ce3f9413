"""What a page shows of `Parameters` without being told: tables, trends, and what moved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from calib.later import pandas as pd
from calib.payload.parameters import Payload, earlier_values
from calib.plots import figures as plots
from calib.plots import trends
from calib.results import Parameters, Section, tables_of


def overview(found: Mapping[str, Parameters], title: str, text: str) -> Section:
    """Return the parameters as tables, and each against the first axis that has several bins.

    Parameters
    ----------
    found : mapping of key to Parameters
        Of the same axes.
    title, text : str
        Of the section.

    Returns
    -------
    Section
        Tables and figures.
    """
    panels: dict[str, tuple[str, float]] = {}
    series: dict[str, pd.DataFrame] = {}
    first = next(iter(found.values()))
    along = next((a for a in first.axes if not a.whole and len(a) > 1), first.axes[0])
    for own in found.values():
        of = " ".join(v for n, v in own.labels.items() if n != "sample")
        for name, unit in zip(own.names, own.units, strict=True):
            label = plots.with_unit(f"{name} of {of}" if of else name, unit)
            panels[f"{of}_{name}" if of else name] = (label, 1.0)
        for where, table in _along(own, along.name).items():
            start = [own.labels["sample"]] if "sample" in own.labels else []
            names = [of] * bool(of)
            columns = {c: f"{of}_{c}" for n in own.names for c in (n, f"{n}_err") if names}
            label = ", ".join([*start, *([where] if where else [])]) or title
            made = table.rename(columns=columns)
            known = series.get(label)
            ends = [f"{along.name}_low", f"{along.name}_high"]
            series[label] = made if known is None else known.merge(made, on=ends, how="outer")
    figures = {"parameters": trends.against_eta(series, panels, axis=along.name)}
    return Section(title, text, tables_of(found), figures)


def _along(own: Parameters, axis: str) -> dict[str, pd.DataFrame]:
    """Return the values along an axis, by the bins of the others; NaN where there are none."""
    table = own.table()
    if f"{axis}_low" not in table:  # whole numbers
        table = table.assign(**{f"{axis}_low": table[axis], f"{axis}_high": table[axis] + 1})
    values = [c for name in own.names for c in (name, f"{name}_err")]
    table.loc[~own.usable, values] = np.nan
    columns = [f"{axis}_low", f"{axis}_high", *values]
    others = [a for a in own.axes if a.name != axis and len(a) > 1]
    if not others:
        return {"": table[columns]}
    keys = [a.name if a.whole else f"{a.name}_low" for a in others]
    words = ["{} {:g}" if a.whole else "{} from {:.2f}" for a in others]
    found = {}
    for place, part in table.groupby(keys, sort=False):
        named = zip(words, others, place, strict=True)
        label = ", ".join(word.format(a.name, x) for word, a, x in named)
        found[label] = part[columns].reset_index(drop=True)
    return found


def moved(found: Mapping[str, Parameters], payload: Payload, earlier: Mapping[str, Any]) -> Section:
    """Return the parameters beside those of an earlier payload, bin by bin.

    Parameters
    ----------
    found : mapping of key to Parameters
        Those of now.
    payload : mapping
        How the calibration's payload is declared.
    earlier : mapping
        The earlier payload.

    Returns
    -------
    Section
        A table and a figure for each.
    """
    tables, figures = {}, {}
    units = {n: u for own in found.values() for n, u in zip(own.names, own.units, strict=True)}
    for name, unit in units.items():
        rows = [
            pd.DataFrame(
                {
                    "bin": [f"{key} {place}" if key else place for place in own.bins],
                    **dict(
                        zip(
                            ("earlier", "earlier_err"),
                            earlier_values(earlier, payload, key, own, name),
                            strict=True,
                        )
                    ),
                    "this": own.values[:, own.names.index(name)],
                    "this_err": own.errors[:, own.names.index(name)],
                }
            )
            for key, own in found.items()
            if name in own.names
        ]
        table = pd.concat(rows, ignore_index=True)
        old, old_err, new, new_err = (table[c].to_numpy(dtype=float) for c in table.columns[1:])
        figures[f"moved_{name}"] = plots.comparison(
            list(table["bin"]), old, old_err, new, new_err, label=name, unit=unit
        )
        tables[f"moved_{name}"] = table.assign(move_sigma=plots.moves(old, old_err, new, new_err))
    return Section("What moved", "Against the earlier payload, bin by bin.", tables, figures)
