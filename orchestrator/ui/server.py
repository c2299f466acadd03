"""Serves the live page: read-only, to this machine alone unless told otherwise, and then to who has the token."""

from __future__ import annotations

import hashlib
import ipaddress
import re
import secrets
from collections.abc import Callable, Mapping
from functools import cache, partial
from hmac import compare_digest
from typing import TypeVar
from urllib.parse import urlencode

from anyio import to_thread
from plotly.offline import get_plotlyjs
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from prunesweep.orchestrator.report.rendering import OWN as REPORT
from prunesweep.orchestrator.report.rendering import asset
from prunesweep.orchestrator.ui.pages import OWN, Page, Pages, whole
from prunesweep.orchestrator.ui.sweeps import NoSuchSweep
from prunesweep.orchestrator.ui.trials import NoSuchTrial
from prunesweep.workers.errors import UserError
from prunesweep.workers.files import Unavailable
from prunesweep.workers.location import public

T = TypeVar("T")

EMPTY = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
"""Of the empty text: plotly makes an empty style sheet, and fills it in by script."""

POLICY = (
    f"default-src 'none'; script-src 'self'; style-src 'self' '{EMPTY}'; img-src 'self' data: blob:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

YEAR = "private, max-age=31536000, immutable"
"""How long a style sheet or script is kept, whose address names its content."""

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""By these names a browser may ask for a page of its own machine: others may be made to lead here (DNS rebinding)."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server at this address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def new_token() -> str:
    """Which nobody guesses."""
    return secrets.token_urlsafe(24)


def application(pages: Pages, host: str, port: int, token: str | None) -> Starlette:
    """The server of a store's pages. With a token only who has it sees them; without one it is for this machine."""
    site = _Site(pages)
    routes = [
        Route("/", site.index, methods=["GET"]),
        Route("/parts/{part}", site.index, methods=["GET"]),
        Route("/sweeps/{name}", site.sweep, methods=["GET"]),
        Route("/sweeps/{name}/seeds.csv", site.seeds, methods=["GET"]),
        Route("/sweeps/{name}/parts/{part}", site.sweep, methods=["GET"]),
        Route("/sweeps/{name}/trials/{key}", site.trial, methods=["GET"]),
        Route("/sweeps/{name}/trials/{key}/parts/{part}", site.trial, methods=["GET"]),
        Route("/static/{digest}/{file}", _static, methods=["GET"]),
    ]
    guard = partial(_with_token, token, f"prunesweep-{port}") if token else partial(_of_this_machine, host)
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(BaseHTTPMiddleware, dispatch=_with_headers),
            Middleware(BaseHTTPMiddleware, dispatch=guard),
            Middleware(GZipMiddleware, minimum_size=2000, compresslevel=6),
        ],
        exception_handlers={
            NoSuchSweep: _absent,
            NoSuchTrial: _absent,
            UserError: _unreadable,
            Unavailable: _unreadable,
        },
    )


# --- who may see it


async def _with_headers(request: Request, answer: RequestResponseEndpoint) -> Response:
    response = await answer(request)
    for name, value in {**HEADERS, "Cache-Control": "no-cache"}.items():
        response.headers.setdefault(name, value)
    return response


async def _of_this_machine(own: str, request: Request, answer: RequestResponseEndpoint) -> Response:
    asked = re.sub(r":\d+$", "", request.headers.get("host", ""))
    if asked not in LOOPBACK | {own}:
        return PlainTextResponse("This page is for its own machine: open it as http://localhost\n", 403)
    return await answer(request)


async def _with_token(token: str, cookie: str, request: Request, answer: RequestResponseEndpoint) -> Response:
    """The first link has the token; from then on the browser does, so that no address shows it."""
    given = request.query_params.get("token")
    if given is not None and _same(given, token):
        rest = [(name, value) for name, value in request.query_params.multi_items() if name != "token"]
        path = "/" + request.url.path.lstrip("/")  # two slashes would lead to another host
        response: Response = RedirectResponse(f"{path}?{urlencode(rest)}" if rest else path, 303)
        response.set_cookie(cookie, token, httponly=True, samesite="lax")
        return response
    if not _same(request.cookies.get(cookie, ""), token):
        return PlainTextResponse("Open the whole link that `prunesweep ui` has printed: it ends in a token\n", 403)
    return await answer(request)


def _same(given: str, token: str) -> bool:
    return compare_digest(given.encode(), token.encode())


# --- pages


class _Site:
    """Answers requests; the store is read in threads, so that one that is slow does not hold up the others."""

    def __init__(self, pages: Pages) -> None:
        self.pages = pages

    async def index(self, request: Request) -> Response:
        page = await _in_a_thread(self.pages.index)
        return self._answer(request, page, "index.html")

    async def sweep(self, request: Request) -> Response:
        name = request.path_params["name"]
        page = await _in_a_thread(lambda: self.pages.sweep(name))
        return self._answer(request, page, "sweep.html")

    async def trial(self, request: Request) -> Response:
        name, key = request.path_params["name"], request.path_params["key"]
        page = await _in_a_thread(lambda: self.pages.trial(name, key))
        return self._answer(request, page, "trial_page.html", sweep=name)

    async def seeds(self, request: Request) -> Response:
        name = request.path_params["name"]
        text = await _in_a_thread(lambda: self.pages.seeds(name))
        attached = {"Content-Disposition": f'attachment; filename="{name}-seeds.csv"'}
        return Response(text, media_type="text/csv", headers=attached)

    def _answer(self, request: Request, page: Page, kind: str, **said: str) -> Response:
        """The whole page, one of its parts, or what versions they have, unless the browser has the same."""
        part = request.path_params.get("part")
        if part is None:
            store = str(self.pages.store.location)
            html = whole(page, kind, assets=assets(), no_styles=no_styles(), store=store, **said)
            return Response(html, media_type="text/html")
        if part == "versions":
            return _unless_same(request, JSONResponse({"versions": page.versions, "seconds": page.seconds}))
        if part not in page.parts:
            return PlainTextResponse("There is no such part of the page\n", 404)
        return _unless_same(request, Response(page.parts[part], media_type="text/html"))


async def _in_a_thread(work: Callable[[], T]) -> T:
    return await to_thread.run_sync(work, abandon_on_cancel=True)


def _unless_same(request: Request, response: Response) -> Response:
    tag = f'"{_digest(bytes(response.body))}"'
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={"ETag": tag})
    response.headers["ETag"] = tag
    return response


async def _absent(request: Request, error: Exception) -> Response:
    return PlainTextResponse(f"{error}\n", 404)


async def _unreadable(request: Request, error: Exception) -> Response:
    return PlainTextResponse(f"The store cannot be read now: {public(str(error))}\n", 503)


# --- style sheets and scripts


@cache
def contents() -> Mapping[str, tuple[bytes, str]]:
    """By name: a style sheet or script, with its type."""
    css, js = "text/css", "text/javascript"
    texts = {
        "page.css": (asset("page.css", REPORT), css),
        "ui.css": (asset("ui.css", OWN), css),
        "components.js": (asset("components.js", REPORT), js),
        "ui.js": (asset("ui.js", OWN), js),
        "plotly.js": (get_plotlyjs(), js),
    }
    return {name: (text.encode(), kind) for name, (text, kind) in texts.items()}


@cache
def assets() -> Mapping[str, str]:
    """By name: the address, which differs for another content."""
    return {name: f"/static/{_digest(content)}/{name}" for name, (content, _) in contents().items()}


@cache
def no_styles() -> list[str]:
    """Style sheets that parts of plotly which no figure of ours uses would write into the page.

    They are not written where an element of that name is there already.
    """
    return list(dict.fromkeys(re.findall(r'getElementById\("([0-9a-f]{64})"\)', get_plotlyjs())))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


async def _static(request: Request) -> Response:
    file = request.path_params["file"]
    if assets().get(file) != request.url.path:
        return PlainTextResponse("There is no such file\n", 404)
    content, kind = contents()[file]
    return Response(content, media_type=kind, headers={"Cache-Control": YEAR})
