"""Pages and their files as answers, and what every answer tells the browser."""

from __future__ import annotations

from pathlib import Path

from fastapi import Response
from fastapi.responses import HTMLResponse

STATIC = Path(__file__).parent / "static"
ASSETS = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
# No script but ours, nothing from elsewhere, no frame around us, forms to here alone.
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # without it a form would not say where it comes from
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def page(text: str, status: int = 200) -> HTMLResponse:
    """A rendered page as an answer."""
    return HTMLResponse(text, status, HEADERS)


def asset(name: str) -> Response:
    """A file of the page."""
    kept = HEADERS | {"cache-control": "no-cache"}
    return Response((STATIC / name).read_bytes(), 200, kept, ASSETS[name])
