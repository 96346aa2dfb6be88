"""A request's headers, the same for both HTTP parsers."""

from collections.abc import Sequence
from typing import Protocol, overload


class Headers(Protocol):
    """A request's headers, by name in lower case. aiohttp's headers have these methods."""

    def __contains__(self, name: object, /) -> bool: ...

    @overload
    def get(self, name: str, /) -> str | None: ...

    @overload
    def get(self, name: str, default: str, /) -> str: ...

    def getall(self, name: str, default: Sequence[str], /) -> Sequence[str]:
        """The values of all lines with this name, in order."""
        ...


class OnceEach(dict[str, str]):
    """Headers that each came once, by name in lower case."""

    def getall(self, name: str, default: Sequence[str], /) -> Sequence[str]:
        return (self[name],) if name in self else default
