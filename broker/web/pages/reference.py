"""The page that describes the API (``/docs``): made from its description, without a script."""

from __future__ import annotations

import re
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, HTMLResponse
from jinja2 import Environment, FileSystemLoader, select_autoescape

from broker.web.pages.outline import sections

router = APIRouter()

_HERE = Path(__file__).parent
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src data:; form-action 'none'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Robots-Tag": "noindex",
}


_MARKED = re.compile(r"(`[^`]+`|\*\*[^*]+\*\*)")


def _pieces(text: str) -> list[tuple[str, str]]:
    """Text in pieces, each after its element: ``code``, ``b``, or none.

    The description has no other Markdown.
    """
    elements = {"`": "code", "*": "b"}
    return [
        (elements[piece[0]], piece.strip("`*")) if _MARKED.fullmatch(piece) else ("", piece)
        for piece in _MARKED.split(text)
        if piece
    ]


_TEMPLATES = Environment(loader=FileSystemLoader(_HERE / "templates"), autoescape=select_autoescape())
_TEMPLATES.filters["pieces"] = _pieces


@router.get("/docs", response_class=HTMLResponse, include_in_schema=False)
async def reference(request: Request) -> HTMLResponse:
    """The same to everybody, as the description that it is made from; made once."""
    state = request.app.state
    if getattr(state, "reference", None) is None:
        document = request.app.openapi()
        info = document["info"]
        state.reference = _TEMPLATES.get_template("reference.html").render(
            title=info["title"],
            version=info["version"],
            summary=info["summary"],
            whole=info["description"].strip().split("\n\n"),
            sections=sections(document),
        )
    return HTMLResponse(state.reference, headers=_HEADERS)


@router.get("/docs/reference.css", include_in_schema=False)
async def style() -> FileResponse:
    """The page's style sheet."""
    return FileResponse(_HERE / "static" / "reference.css", media_type="text/css")
