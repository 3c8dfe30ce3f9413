"""Chunks that were set aside: which, why, and whether they are still few enough."""

from __future__ import annotations

from typing import Any

from calib.documents import json_values
from calib.errors import CalibError
from calib.results import Pass
from jobs.config.complete import Work
from jobs.events.files import Chunk, Inspection
from jobs.storage.files import write_json


class Ledger:
    """What a pass leaves out: what the first pass did, and what fails in this one.

    ``entries`` are those of this pass.
    """

    def __init__(self, work: Work, inspection: Inspection, walk: Pass) -> None:
        self.work, self.walk = work, walk
        self.entries: list[dict[str, Any]] = []
        self._events = sum(f.n_events for f in inspection.files)
        self._unopened = [
            {
                "sample": b.sample,
                "path": b.path,
                "events": None,
                "about": b.events,
                "error": b.error,
            }
            for b in inspection.bad
        ]
        first = {} if walk.name == "main" else work.directory.marker("collect.main")
        self._earlier: list[dict[str, Any]] = list(first.get("bad", ()))

    def has(self, chunk: Chunk) -> bool:
        """Return whether a chunk is left out."""
        place = (chunk.sample, chunk.file.path, chunk.start, chunk.stop)
        return any(_place(e) == place for e in (*self._earlier, *self.entries))

    def set_aside(self, chunk: Chunk, error: str) -> None:
        """Leave a chunk out.

        Parameters
        ----------
        chunk : Chunk
            That failed.
        error : str
            Why, a sentence.

        Raises
        ------
        CalibError
            If that is more than the configuration allows.
        """
        self.entries.append(_entry(chunk, error, self.walk))
        shut = sum(e["about"] for e in self._unopened)
        known = sum(e["events"] for e in (*self._earlier, *self.entries))
        share = (shut + known) / (shut + self._events)
        allowed = self.work.config.allowed_bad
        if share > allowed:
            raise CalibError(
                f"{share:.1%} of the events are in files that cannot be used, more than key"
                f" 'bad_files.skip_up_to' {allowed:g} allows; the last: {chunk.file.path}:"
                f" {error}; what was done is kept, run the same command again to go on"
            )

    def note(self, error: CalibError | None) -> None:
        """Enter the chunk that ended the run."""
        from jobs.event_loop.executor import ChunkError

        if isinstance(error, ChunkError):
            item = error.item
            self.entries.append(
                {
                    "sample": item.dataset,
                    "path": item.filename,
                    "start": item.entrystart,
                    "stop": item.entrystop,
                    "events": len(item),
                    "error": error.error,
                    "pass": self.walk.name,
                }
            )

    def all_entries(self) -> list[dict[str, Any]]:
        """Return files that could not be opened, then the chunks."""
        return [*self._unopened, *self._earlier, *self.entries]

    def add_to_accounting(self) -> None:
        """Enter what this pass alone has left out into the accounting of the first."""
        path = self.work.directory / "accounting.json"
        found = json_values(path.read_text(encoding="utf-8"))
        own = self.walk.name
        before = [b for b in found["bad_files"] if b.get("pass", "main") != own]
        if [*before, *self.entries] != found["bad_files"]:
            found["bad_files"] = [*before, *self.entries]
            write_json(path, found)


def _entry(chunk: Chunk, error: str, walk: Pass) -> dict[str, Any]:
    return {
        "sample": chunk.sample,
        "path": chunk.file.path,
        "start": chunk.start,
        "stop": chunk.stop,
        "events": chunk.stop - chunk.start,
        "error": error,
        "pass": walk.name,
    }


def _place(entry: dict[str, Any]) -> tuple[str, str, int, int]:
    return entry["sample"], entry["path"], entry["start"], entry["stop"]
