"""The page: its files, from the package, with headers that let nothing else into it.

The page holds no data: what it shows it asks the other routes for, with the key that the user gives it. A key travels in a
header that no other site can set, so that none can use the page's rights.
"""

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse, Response

from memspan.serve.replies import missing

router = APIRouter(include_in_schema=False)
FOLDER = Path(__file__).with_name("page")
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
FILES = {file.name: file for file in sorted(FOLDER.iterdir()) if file.suffix in TYPES}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


@router.get("/ui")
async def page() -> Response:
    """The page."""
    return _file("page.html")


@router.get("/ui/{name}")
async def file_of_page(name: str) -> Response:
    """A file of the page."""
    return _file(name)


def _file(name: str) -> Response:
    file = FILES.get(name)
    if file is None:
        raise missing("file", name)
    return FileResponse(file, media_type=f"{TYPES[file.suffix]}; charset=utf-8", headers=HEADERS)
