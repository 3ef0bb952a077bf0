"""The app as a whole (ASGI): its page, its API, its door."""

from collections.abc import Awaitable, Callable
from importlib.resources import files

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from diptych.app.answers import Answers
from diptych.app.api import routes
from diptych.app.guard import Door, Guard
from diptych.app.pictures import Gone
from diptych.errors import DiptychError
from diptych.terminal import escaped

_KINDS = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


def build(answers: Answers, door: Door) -> Guard:
    """The app that answers behind a door."""
    pages = [
        Route("/" if file.name == "index.html" else f"/{file.name}", _page(file.name))
        for file in files("diptych.app").joinpath("static").iterdir()
    ]
    app = Starlette(
        routes=[*pages, *routes(answers)],
        exception_handlers={
            Gone: _refused(404),
            DiptychError: _refused(400),
            HTTPException: _failed,
            500: _defect,
        },
    )
    return Guard(app, door)


def _page(name: str) -> Callable[[Request], Awaitable[Response]]:
    """A file of ours, read once."""
    data = files("diptych.app").joinpath("static", name).read_bytes()
    kind = _KINDS[name[name.rindex(".") :]]

    async def answer(request: Request) -> Response:
        return Response(data, media_type=kind, headers={"cache-control": "no-cache"})

    return answer


def _refused(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": escaped(str(error))}, status)

    return answer


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    return PlainTextResponse(f"{error.detail}\n", error.status_code, error.headers)


async def _defect(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "a defect of Diptych; the terminal says more"}, 500)
