"""The header `Forwarded` (RFC 7239): only its parameter `for`, the client of each proxy."""

import re

# A pair, and what follows it: `;` another pair of the same proxy, `,` the next proxy, or the end.
_PAIR = re.compile(
    r"[ \t]*(?:(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?P<value>[^\s\",;=]+|\"(?:[^\"\\]|\\.)*\"))?"
    r"[ \t]*(?P<next>[;,]|$)"
)


# More than any chain of proxies has, each with all that RFC 7239 lets it say.
_MOST_PARTS = 256


def forwarded_for(line: str) -> list[str | None]:
    """The node that each element names in `for`, in order; None for an element without `for`.

    Args:
        line: one header line. If it is malformed, or far too long for a chain of proxies, it is
            unknown which part a proxy wrote and which the client. The result is then one None.
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
