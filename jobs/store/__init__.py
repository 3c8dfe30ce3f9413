"""The store of published constants: which payload holds for which run, and how it came to that.

A store is a directory (``store.sqlite`` with the files beside it) or a PostgreSQL database with
a directory for the files. Nothing in it is ever changed or removed.
"""

from jobs.store.changes import NotPublishable
from jobs.store.revisions import MAIN, Interval, Revision, Tag
from jobs.store.store import Store

__all__ = ["MAIN", "Interval", "NotPublishable", "Revision", "Store", "Tag"]
