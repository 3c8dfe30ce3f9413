"""The server of the page: reads only, and says to the browser what it may do with what it gets."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import socket
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

import tornado.web
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tornado.httpserver import HTTPServer

from calib.errors import CalibError, InputError
from jobs.pages.report_tables import number, with_error, words
from jobs.pages.store_pages import NotFound, Page, Pages
from jobs.store import Store

log = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "localhost", "::1")

STRICT = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
REPORT = (
    "sandbox allow-scripts allow-popups; default-src 'none'; img-src data:;"
    " style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)
"""A report is a page of its own, with its script in it; it can reach nothing of this one."""

HEADERS = {
    "Content-Security-Policy": STRICT,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".yaml": "text/plain; charset=utf-8",
}


class _Handler(tornado.web.RequestHandler):
    """What all answers have in common."""

    def initialize(self, pages: Pages, templates: Environment, hosts: frozenset[str]) -> None:
        """Take what the application knows."""
        self.pages, self.templates, self.hosts = pages, templates, hosts

    def set_default_headers(self) -> None:
        """Set the headers of every answer, errors included."""
        self.set_header("Server", "calib")
        for name, value in HEADERS.items():
            self.set_header(name, value)

    def prepare(self) -> None:
        """Refuse requests under a name that is not ours (DNS rebinding)."""
        if self.hosts and (self.request.host_name or "").strip("[]").lower() not in self.hosts:
            self.refuse(421, f"this is {', '.join(sorted(self.hosts))}, not that host")

    async def run(self, work: Callable[[], Any]) -> Any:
        """Return what the work returns, done beside the loop; None where it was refused."""
        try:
            return await asyncio.get_running_loop().run_in_executor(None, work)
        except NotFound as error:
            self.refuse(404, str(error))
        except InputError as error:
            self.refuse(400, str(error))
        except CalibError as error:
            log.error("%s", error)
            self.refuse(500, str(error))
        except Exception:
            log.exception("%s", self.request.path)
            self.refuse(500, "failed; what it was is in the log")

    def refuse(self, code: int, sentence: str) -> None:
        """End with an error, as a page or as JSON."""
        self.set_status(code)
        if self.wants_json:
            self.finish_json({"error": sentence, "status": code})
        else:
            page = Page("serve_error.html", f"{code}", {"error": sentence})
            self.finish(self.rendered(page))

    def write_error(self, status_code: int, **details: Any) -> None:
        """Say what is known, and nothing of our insides."""
        known = {404: "there is no such page", 405: "this page is for reading"}
        self.refuse(status_code, known.get(status_code, "failed"))

    @property
    def wants_json(self) -> bool:
        """Whether a machine asks."""
        if self.request.path.endswith(".json"):
            return True
        accepted = self.request.headers.get("Accept", "").lower()
        return "application/json" in accepted and "text/html" not in accepted

    def finish_json(self, values: Any) -> None:
        """Send JSON, which has neither NaN nor infinity."""
        self.set_header("Content-Type", KINDS[".json"])
        self.finish(as_text(values))

    def rendered(self, page: Page) -> str:
        """Return the HTML of a page."""
        here = self.request.path.removesuffix(".json")
        template = self.templates.get_template(page.template)
        return template.render(
            data=page.data,
            drawn=page.drawn(),
            title=page.title,
            here=here,
            json_address=("/index" if here == "/" else here) + ".json",
        )


class PageHandler(_Handler):
    """A page, or its JSON."""

    async def get(self) -> None:
        """Answer."""
        arguments = {k: self.get_query_argument(k) for k in self.request.query_arguments}
        path = self.request.path.removesuffix(".json")
        as_json = self.wants_json

        def made() -> str:
            page = self.pages.page(path, arguments)
            return as_text({**page.data, **page.more()}) if as_json else self.rendered(page)

        found = await self.run(made)
        if found is None:
            return
        self.set_header("Vary", "Accept")
        if as_json:
            self.set_header("Content-Type", KINDS[".json"])
        self.finish(found)

    head = get


class FileHandler(_Handler):
    """A file kept of the run of a revision, as it was published."""

    async def get(self, revision: str, name: str) -> None:
        """Answer; what is not for a browser is saved under its name.

        Parameters
        ----------
        revision, name : str
            Number of the revision, name of the file.
        """
        data = await self.run(lambda: self.pages.file(revision, name))
        if data is None:
            return
        suffix = PurePosixPath(name).suffix
        self.set_header("Content-Type", KINDS.get(suffix, "application/octet-stream"))
        if suffix == ".html":
            self.set_header("Content-Security-Policy", REPORT)
        elif suffix not in (".json", ".yaml"):
            self.set_header("Content-Disposition", f'attachment; filename="{revision}-{name}"')
        self.finish(data)

    head = get


class StyleHandler(_Handler):
    """The one style sheet."""

    def get(self) -> None:
        """Answer."""
        from jobs.pages.report import template_text

        self.set_header("Content-Type", "text/css; charset=utf-8")
        self.set_header("Cache-Control", "max-age=3600")
        self.finish(template_text("report.css") + template_text("serve.css"))

    head = get


def application(store: Store, hosts: frozenset[str] = frozenset()) -> tornado.web.Application:
    """Return the pages of a store.

    Parameters
    ----------
    store : Store
        Whose pages these are.
    hosts : frozenset of str
        Names that it answers to; all if empty.

    Returns
    -------
    Application
        Not listening yet.
    """
    own = {"pages": Pages(store), "templates": environment(), "hosts": hosts}
    return tornado.web.Application(
        [
            (r"/static/style.css", StyleHandler, own),
            (
                r"/revision/([0-9]{1,10})/files/([A-Za-z0-9][A-Za-z0-9_.+-]{0,120})",
                FileHandler,
                own,
            ),
            (r"/.*", PageHandler, own),
        ],
        compress_response=True,
        log_function=lambda handler: log.info(
            "%s %s %s", handler.get_status(), handler.request.method, handler.request.path
        ),
    )


def environment() -> Environment:
    """Return the templates, everything in them escaped."""
    from importlib.resources import files

    made = Environment(
        loader=FileSystemLoader(str(files("jobs") / "pages" / "templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"number": number, "words": words}
    made.globals["with_error"] = with_error
    return made


def listen(store: Store, host: str, port: int) -> tuple[HTTPServer, str]:
    """Return a server that listens, and its address.

    Parameters
    ----------
    store : Store
        Whose pages these are.
    host : str
        Name or address.
    port : int
        0: any that is free.

    Returns
    -------
    HTTPServer
        It answers when the loop runs.
    str
        Address.

    Raises
    ------
    InputError
        If the address cannot be listened to.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=128)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"option --host, --port: {host}:{port} cannot be listened to ({reason}); choose"
            " another one"
        ) from None
    hosts = frozenset({*LOOPBACK, host.lower()}) if is_loopback(host) else frozenset()
    server = HTTPServer(
        application(store, hosts),
        max_body_size=1024,
        max_header_size=32_768,
        idle_connection_timeout=60,
    )
    listening.setblocking(False)
    server.add_socket(listening)
    found = listening.getsockname()
    name = f"[{found[0]}]" if ":" in found[0] else found[0]
    return server, f"http://{name}:{found[1]}/"


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    return host.lower() in LOOPBACK or host.startswith("127.")


async def serve(server: HTTPServer, stop: asyncio.Event) -> None:
    """Answer until told to stop.

    Parameters
    ----------
    server : HTTPServer
        That listens.
    stop : asyncio.Event
        Set to end it.
    """
    try:
        await stop.wait()
    finally:
        server.stop()
        await server.close_all_connections()


def as_text(values: Any) -> str:
    """Return JSON; what is no finite number is null there."""
    return json.dumps(_finite(values), allow_nan=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
