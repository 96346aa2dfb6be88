"""One setting, read from the environment.

`Setting.read(environment)` gives the parsed value, or raises `Misconfigured` with one line that
names the setting, what is wrong and an example. An empty value counts as unset.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from contract.errors import Misconfigured

T = TypeVar("T")

Environment = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Setting(Generic[T]):
    """One setting: `parse` raises ValueError, with what is wrong, for what it does not accept."""

    name: str
    parse: Callable[[str], T]
    default: str | None
    example: str
    meaning: str
    redact: Callable[[str], str] = str

    def show(self, environment: Environment) -> str:
        """The text in force, without what is secret in it, for a log."""
        text = environment.get(self.name, "").strip() or self.default or ""
        return self.redact(text)

    def read(self, environment: Environment) -> T:
        """The value in force.

        Raises:
            Misconfigured: it is missing and has no default, or is not what it should be.
        """
        text = environment.get(self.name, "").strip() or self.default
        if text is None:
            raise Misconfigured(self.name, "is not set", self._assignment())
        try:
            return self.parse(text)
        except ValueError as error:
            raise Misconfigured(self.name, str(error), self._assignment()) from None

    def _assignment(self) -> str:
        return f"{self.name}={self.example}"
