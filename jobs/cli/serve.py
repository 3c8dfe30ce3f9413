"""`calib serve`: the page of a store."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.console import Json, Quiet, Verbose, console


def serve(
    store: Annotated[
        str, typer.Argument(metavar="STORE", help="Directory, or postgresql://USER@HOST/NAME.")
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on; any other than loopback is seen by all.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 8765,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    json: Json = False,
) -> None:
    """Show a store in the browser, read only: constants, verdicts, history, differences, reports.

    Each page is there as JSON as well: the same address with .json. Ctrl-C ends it.

    Example: [bold]calib serve constants --port 8765[/bold]
    """
    own = console(quiet, verbose, json)
    import asyncio
    import logging
    import signal
    from contextlib import suppress

    from jobs.pages import server
    from jobs.store import Store

    opened = Store.open(store)
    if not server.is_loopback(host):
        logging.getLogger("jobs").warning(
            "%s: everybody who reaches it sees the store; there are no passwords here", host
        )

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(NotImplementedError, RuntimeError):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
        listening, address = server.listen(opened, host, port)
        own.say(f"{store}: [bold]{address}[/bold] (Ctrl-C ends it)")
        own.result({"store": store, "address": address})
        await server.serve(listening, stop)

    asyncio.run(run())
