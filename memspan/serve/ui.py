"""The page: its files, from the package, with headers that let nothing else into it.

The page holds no data: what it shows it asks the other routes for, with the key that the user gives it. A key travels in a
header that no other site can set, so that none can use the page's rights.
"""

from collections.abc import Mapping
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse, Response

from memspan.serve.replies import missing

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


def page_router(files: Mapping[str, Path]) -> APIRouter:
    """The routes of a page at /ui: `page.html`, and the files that it names.

    Args:
        files: by their names; their endings are those of `TYPES`.
    """
    router = APIRouter(include_in_schema=False)

    def answer(name: str) -> Response:
        if name not in files:
            raise missing("file", name)
        media_type = f"{TYPES[files[name].suffix]}; charset=utf-8"
        return FileResponse(files[name], media_type=media_type, headers=HEADERS)

    @router.get("/ui")
    async def page() -> Response:
        """The page."""
        return answer("page.html")

    @router.get("/ui/{name}")
    async def file_of_page(name: str) -> Response:
        """A file of the page."""
        return answer(name)

    return router


router = page_router(FILES)
