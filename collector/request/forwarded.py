"""The header `Forwarded` (RFC 7239): its parameter `for`, the client that each proxy saw."""

import re

# A pair, then `;` (another pair of the same proxy), `,` (the next proxy) or the end.
_PAIR = re.compile(
    r"[ \t]*(?:(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?P<value>[^\s\",;=]+|\"(?:[^\"\\]|\\.)*\"))?"
    r"[ \t]*(?P<next>[;,]|$)"
)
_MOST_PARTS = 256  # more than any chain of proxies needs


def forwarded_for(line: str) -> list[str | None]:
    """The value of `for` in each element of a header line; None for an element without it.

    The result is [None] if the line is malformed or has too many parts: then it is unknown which of
    them the client wrote.
    """
    if line.count(",") + line.count(";") >= _MOST_PARTS:
        return [None]
    nodes: list[str | None] = []
    node: str | None = None
    named = False
    at = 0
    while True:
        pair = _PAIR.match(line, at)
        if pair is None:
            return [None]
        if pair["name"] is not None:
            named = True
            if pair["name"].lower() == "for":
                node = pair["value"].strip('"')
        if pair["next"] != ";":
            if named:
                nodes.append(node)
            node, named = None, False
        if not pair["next"]:
            return nodes
        at = pair.end()
