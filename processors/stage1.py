"""A chunk of stage1 for the processor, without coffea's parquet reader.

That reader reads the whole file for every chunk, and refuses files that hold any column of text
or time, whether it is used or not.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from coffea.processor import ProcessorABC
from coffea.processor.executor import WorkItem


@dataclass(frozen=True)
class Stage1Chunk:
    """Where the entries of a chunk are; the processor's reader fetches the columns."""

    metadata: dict[str, Any]

    def __len__(self) -> int:
        return int(self.metadata["entrystop"] - self.metadata["entrystart"])


def work(item: WorkItem, processor: ProcessorABC) -> dict[str, Any]:
    """Return the result of one chunk, as the function that coffea's Runner hands to executors."""
    metadata = {
        "dataset": item.dataset,
        "filename": item.filename,
        "entrystart": item.entrystart,
        "entrystop": item.entrystop,
        "fileuuid": str(uuid.UUID(bytes=item.fileuuid)) if item.fileuuid else "",
        **(item.usermeta or {}),
    }
    return {"out": processor.process(Stage1Chunk(metadata)), "processed": {item}}
