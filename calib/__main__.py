"""The command ``calib``, also as ``python -m calib``: says its version, or hands over to jobs."""

from __future__ import annotations

import importlib
import sys

from calib import __version__


def main() -> None:
    """Run the command line, if it is ours that Python finds.

    It is in the room above, jobs, which is asked for by name.
    """
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"{__version__}\n")
        return
    from calib.errors import InputError
    from calib.rooms import require_rooms

    try:
        require_rooms()
    except InputError as error:
        sys.stderr.write(f"calib: error: {error}\n")
        sys.exit(2)
    importlib.import_module("jobs.cli").main()


if __name__ == "__main__":
    main()
