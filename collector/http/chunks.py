"""A request in chunks: takes its bytes as they come, gives how many of them are the request."""

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from collector.request.body import MAX_BYTES


class ChunkedRequest:
    """One whose headers say that its body is chunked."""

    def __init__(self) -> None:
        self._parser = HttpRequestParser(self)
        self._whole = False
        self._fed = 0
        self._body = 0  # bytes

    def on_body(self, part: bytes) -> None:
        """The parser's word."""
        self._body += len(part)

    def on_message_complete(self) -> None:
        """The parser's word."""
        self._whole = True

    def length(self, data: bytes) -> int | None:
        """How many bytes it has; None: its end has not come yet.

        Where it is malformed or too large, all of them: whoever reads them next will say so.

        Args:
            data: all that came since its first byte; what was looked at before is not again.
        """
        # The parser does not say where it was when it was done: that is at the end of a line.
        for line in data[self._fed :].splitlines(keepends=True):
            self._fed += len(line)
            try:
                self._parser.feed_data(line)
            except (HttpParserError, HttpParserUpgrade):
                return len(data)
            if self._whole:
                return self._fed
        return len(data) if self._body > MAX_BYTES else None
