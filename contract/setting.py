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
    """One setting. `parse` raises ValueError with a message that says what is wrong.

    `default` is a function of the environment if it depends on another setting.
    """

    name: str
    parse: Callable[[str], T]
    default: str | Callable[[Environment], str] | None
    example: str
    meaning: str
    redact: Callable[[str], str] = str

    def show(self, environment: Environment) -> str:
        """The text in force, for a log: without secrets."""
        return self.redact(self._text(environment) or "")

    def read(self, environment: Environment) -> T:
        """The value in force.

        Raises:
            Misconfigured: it is missing and has no default, or it is wrong.
        """
        text = self._text(environment)
        if text is None:
            raise self.wrong("is not set")
        try:
            return self.parse(text)
        except ValueError as error:
            raise self.wrong(str(error)) from None

    def wrong(self, problem: str) -> Misconfigured:
        return Misconfigured(self.name, problem, f"{self.name}={self.example}")

    def _text(self, environment: Environment) -> str | None:
        text = environment.get(self.name, "").strip()
        if text:
            return text
        return self.default(environment) if callable(self.default) else self.default
