"""The page at `/`: plain HTML, CSS and JavaScript in the package, from no other host, so that it works offline.

`index.html` is what is seen, `page.js` asks and transcribes, `sound.js` reads, records, draws and plays sounds,
`talk.js` holds a spoken conversation over `/v1/realtime`, `microphone.js` hands it the microphone's samples.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

FOLDER = Path(__file__).parent
INDEX = "index.html"
MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS = {
    # Nothing from elsewhere, nothing inline, and nobody else's page around this one.
    "content-security-policy": "default-src 'self'; media-src 'self' blob:; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def routes() -> list[BaseRoute]:
    """The routes of the page and its files, for Starlette; read once."""
    files = sorted(path for path in FOLDER.iterdir() if path.suffix in MEDIA_TYPES)
    return [Route("/" if path.name == INDEX else f"/web/{path.name}", _answer(path)) for path in files]


def _answer(path: Path) -> Callable[[Request], Awaitable[Response]]:
    content, media_type = path.read_bytes(), MEDIA_TYPES[path.suffix]

    async def answer(_: Request) -> Response:
        return Response(content, media_type=media_type, headers=HEADERS)

    return answer
