"""A request's headers, the same for both HTTP parsers."""

from collections.abc import Sequence
from typing import Protocol, overload


class Headers(Protocol):
    """A request's headers, by names in lower case. aiohttp's fit this protocol, too."""

    def __contains__(self, name: object, /) -> bool: ...

    @overload
    def get(self, name: str, /) -> str | None: ...

    @overload
    def get(self, name: str, default: str, /) -> str: ...

    def getall(self, name: str, default: Sequence[str], /) -> Sequence[str]:
        """The values of all lines of this name, in order."""
        ...


class OnceEach(dict[str, str]):
    """Headers that each came once, by their names in lower case."""

    def getall(self, name: str, default: Sequence[str], /) -> Sequence[str]:
        """The values of all lines of this name, in order."""
        return (self[name],) if name in self else default
