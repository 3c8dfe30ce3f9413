"""Damaged files of our own: accepted, or refused by one sentence and exit code 2.

``python -m tests.faults.fuzz 2000`` from the root of the repository damages as many.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner

from jobs.cli import app

Rng = np.random.Generator
WORDS = [
    b"null",
    b"-1",
    b"1e999",
    b"NaN",
    b"[",
    b"]",
    b"{",
    b"}",
    b"'",
    b'"',
    b"../../x",
    b"*a",
    b"&a",
    b"!!python/object/apply:os.system ['touch /tmp/run']",
    b"99999999999999999999",
    b"\xff\xfe",
    b"true",
    b"~",
    b"\x00",
    b"- " * 80,
    b"[" * 3000,
    b"\n",
    b":",
    b"<<: *a",
    b"0x10",
    b"\xc3\xa9",
]


def mutated(raw: bytes, rng: Rng) -> bytes:
    """Return the bytes with one to four of: bits flipped, cut, doubled, spliced, a word put in."""
    data = bytearray(raw)
    for _ in range(int(rng.integers(1, 5))):
        n = max(1, len(data))
        at, to = sorted(int(i) for i in rng.integers(0, n, 2))
        kind = int(rng.integers(0, 6))
        if kind == 0 and data:
            data[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            del data[at : at + int(rng.integers(1, 30))]
        elif kind == 2:
            del data[at:to]
        elif kind == 3:
            data[at:at] = data[at : min(to, at + 200)]
        elif kind == 4:
            data[at : at + int(rng.integers(0, 12))] = WORDS[int(rng.integers(0, len(WORDS)))]
        else:
            del data[at:]
    return bytes(data)


def json_mutated(raw: bytes, rng: Rng) -> bytes:
    """Return JSON that is still JSON: a value of it replaced, or a key taken out."""
    document = json.loads(raw)
    places = list(_places(document))
    holder, key = places[int(rng.integers(0, len(places)))]
    values: list[Any] = [None, -1, 1e300, "", "../x", [], {}, True, [[]] * 50, 2**70, "x" * 9999]
    if rng.random() < 0.3:
        del holder[key]
    else:
        holder[key] = values[int(rng.integers(0, len(values)))]
    return json.dumps(document).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items: Any = ()
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    for key, inner in items:
        yield value, key
        yield from _places(inner)


def npz_mutated(raw: bytes, rng: Rng) -> bytes:
    """Return an .npz that is a whole zip: a header that lies, a bomb, pickles, other names."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(out, "w", 8) as new:
        names = old.namelist()
        chosen = names[int(rng.integers(0, len(names)))]
        for name in names:
            data = old.read(name)
            if name == chosen:
                name, data = _lie(name, data, int(rng.integers(0, 5)))
            if data:
                new.writestr(name, data)
    return out.getvalue()


def _lie(name: str, data: bytes, kind: int) -> tuple[str, bytes]:
    header: dict[str, Any] = {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)}
    body = b""
    if kind == 1:
        header["descr"], header["shape"], body = "|O", (1,), b"cos\nsystem\n(S'true'\ntR."
    elif kind == 2:
        return f"../../{name}", data
    elif kind == 3:
        return name, b""
    elif kind == 4:
        header["shape"], body = (1_000_000,), bytes(8_000_000)
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, header)
    return name, stream.getvalue() + body


def factors() -> bytes:
    """Return a payload as mass_resolution publishes it."""
    from types import SimpleNamespace

    from calib.calibrations.mass_resolution.payload import document
    from calib.calibrations.mass_resolution.settings import Settings

    ones = np.ones(36)
    state = {"status": 0 * ones, "factor": 1.1 * ones, "factor_err": 0.01 * ones}
    made: Any = SimpleNamespace(state=state, arrays={})
    return json.dumps(document(made, Settings())).encode()


class Fuzz:
    """Mutations of the files of one finished run."""

    def __init__(self, done: Path, config: Path, events: Path, folder: Path) -> None:
        self.done, self.config, self.events, self.folder = done, config, events, folder
        self.totals = done / "histograms" / "main.data.npz"
        self.factors = factors()
        self.cases: dict[str, Callable[[Rng], tuple[str, ...]]] = {
            "configuration": self.configuration,
            "payload": self.payload,
            "histogram": self.histogram,
            "accounting": self.accounting,
        }

    def configuration(self, rng: Rng) -> tuple[str, ...]:
        out = self._copy("config.yaml", mutated(self.config.read_bytes(), rng))
        return ("status", str(out))

    def payload(self, rng: Rng) -> tuple[str, ...]:
        raw = self.factors
        path = self.folder / "payload.json"
        path.write_bytes(json_mutated(raw, rng) if rng.random() < 0.5 else mutated(raw, rng))
        (self.folder / "out.parquet").unlink(missing_ok=True)
        return ("apply", str(path), str(self.events), str(self.folder / "out.parquet"))

    def histogram(self, rng: Rng) -> tuple[str, ...]:
        raw = self.totals.read_bytes()
        made = npz_mutated(raw, rng) if rng.random() < 0.5 else mutated(raw, rng)
        out = self._copy("histograms/main.data.npz", made)
        return ("reduce", str(out))

    def accounting(self, rng: Rng) -> tuple[str, ...]:
        raw = (self.done / "accounting.json").read_bytes()
        made = json_mutated(raw, rng) if rng.random() < 0.5 else mutated(raw, rng)
        return ("status", str(self._copy("accounting.json", made)))

    def _copy(self, name: str, content: bytes) -> Path:
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(self.done, out)
        (out / name).write_bytes(content)
        return out

    def run(self, n: int, seed: int) -> tuple[Counter[str], list[str]]:
        """Return how many were accepted and refused, and what was wrong in the others."""
        counts: Counter[str] = Counter()
        wrong = []
        for i in range(n):
            name = list(self.cases)[i % len(self.cases)]
            rng = np.random.default_rng([seed, i])
            arguments = self.cases[name](rng)
            found = CliRunner().invoke(app, list(arguments))
            lines = found.stderr.strip().splitlines()
            refused = found.exit_code == 2 and len(lines) == 1 and "Traceback" not in lines[0]
            # 1 is how status says that a run is not finished; a sentence is an error
            said = [line for line in lines if line.startswith("calib: ")]
            accepted = found.exit_code in (0, 1, 3) and not said
            counts[f"{name} {'refused' if refused else 'accepted' if accepted else 'wrong'}"] += 1
            if not (refused or accepted):
                wrong.append(f"{seed},{i} {name}: exit {found.exit_code} {found.output[-300:]}")
        return counts, wrong


def prepared(folder: Path) -> Fuzz:
    """Return a small finished run to be damaged."""
    from calib.toys.generation import generate
    from jobs.events.toys import write_stage1

    from .conftest import configuration

    events = folder / "events"
    events.mkdir()
    made = generate("z", 1500, seed=5)
    write_stage1(events / "z.parquet", made.pairs, simulation=False)
    config = configuration(folder, events, calibration="mean_mass:MeanMass")
    CliRunner().invoke(app, ["run", str(config), "--out", str(folder / "done")])
    if not (folder / "done" / "payload.json").is_file():
        raise RuntimeError("the run to be damaged did not finish")
    work = folder / "work"
    work.mkdir()
    return Fuzz(folder / "done", config, events / "z.parquet", work)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        counts, wrong = prepared(Path(name)).run(int(sys.argv[1]), seed=1)
    sys.stdout.write("\n".join([*(f"{n:6d} {k}" for k, n in sorted(counts.items())), *wrong, ""]))
