"""`GET /beacon.js`: the front-end module, for pages without a build step."""

import gzip
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from aiohttp import hdrs, web

from collector.http.routes import Page, pages_at
from contract.collector_metrics import CollectorMetrics
from contract.errors import Misconfigured

_WEIGHT_0 = re.compile(r"q\s*=\s*0(?:\.0{0,3})?")
SOURCE = Path(__file__).parents[2] / "beacon" / "beacon.js"
# A new version reaches all browsers within an hour. For one more day a browser may use its copy
# while it fetches the new one, so no page has to wait.
_LIFETIME = "public, max-age=3600, stale-while-revalidate=86400"


class Beacon:
    """Serves the module, without its comments."""

    def __init__(self, metrics: CollectorMetrics, source: Path = SOURCE) -> None:
        """
        Raises:
            Misconfigured: the file can't be read.
        """
        try:
            text = source.read_text("utf-8")
        except OSError as error:
            problem = f"can't be read: {error.strerror or error}"
            raise Misconfigured(str(source), problem, "deploy the folder beacon/ too") from None
        self._metrics = metrics
        self._body = without_comments(text).encode()
        self._compressed = gzip.compress(self._body, mtime=0)
        self._etag = hashlib.sha256(self._body).hexdigest()[:16]

    @property
    def routes(self) -> Sequence[Page]:
        return pages_at("/beacon.js", self.serve)

    async def serve(self, request: web.BaseRequest, _: str = "") -> web.Response:
        """200 with the module, or 304 if the browser has it."""
        self._metrics.ignored.labels("page").inc()
        headers = {
            hdrs.CACHE_CONTROL: _LIFETIME,
            hdrs.ETAG: f'W/"{self._etag}"',  # weak: the same for the compressed bytes
            hdrs.VARY: hdrs.ACCEPT_ENCODING,
            # Browsers fetch modules with CORS. Any page may load it: `SITES` decides what counts.
            hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
            "Cross-Origin-Resource-Policy": "cross-origin",
            "X-Content-Type-Options": "nosniff",
        }
        if any(known.value in (self._etag, "*") for known in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        body = self._body
        if takes_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, "")):
            headers[hdrs.CONTENT_ENCODING] = "gzip"
            body = self._compressed
        return web.Response(
            body=body, headers=headers, content_type="text/javascript", charset="utf-8"
        )


def takes_gzip(accepted: str) -> bool:
    """Whether an `Accept-Encoding` accepts gzip (RFC 9110, section 12.5.3)."""
    weights: dict[str, bool] = {}
    for entry in accepted.lower().split(","):
        coding, _, weight = entry.partition(";")
        weights[coding.strip()] = _WEIGHT_0.fullmatch(weight.strip()) is None
    return weights.get("gzip", weights.get("*", False))


def without_comments(source: str) -> str:
    """JavaScript without indentation, empty lines and comments.

    Each comment must be on lines of its own, and no string may span lines.
    """
    lines = (line.strip() for line in source.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//")) + "\n"
