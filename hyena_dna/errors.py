"""Errors that a user can act on.

Every command turns an `InputError` into one line on stderr and exit code 2, and a `RunError` into one line and exit
code 1; anything else is a bug and is reported as such.
"""

from __future__ import annotations

from os import PathLike, fspath

__all__ = ["InputError", "RunError", "escape", "missing_extra"]


def escape(text: object) -> str:
    """Make text from a file safe to show on one terminal line: control characters become visible escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


class InputError(ValueError):
    """Bad input or usage: what is wrong, where, and what to do about it.

    Args:
        reason: what is wrong, in a few words.
        file: the file it was found in.
        line: 1-based line number in that file.
        contig: contig name, where the place is in a sequence.
        position: 1-based position on that contig.
        remedy: what the user can do; shown in brackets.
    """

    def __init__(
        self,
        reason: str,
        *,
        file: str | PathLike[str] | None = None,
        line: int | None = None,
        contig: str | None = None,
        position: int | None = None,
        remedy: str | None = None,
    ) -> None:
        self.reason = reason
        self.file = None if file is None else fspath(file)
        self.line = line
        self.contig = contig
        self.position = position
        self.remedy = remedy
        super().__init__(self.render())

    def render(self) -> str:
        """The whole message on one line: `FILE[:LINE|:CONTIG[:POS]]: reason (remedy)`."""
        place = [str(part) for part in (self.file, self.line, self.contig, self.position) if part is not None]
        text = f"{':'.join(place)}: {self.reason}" if place else self.reason
        return escape(f"{text} ({self.remedy})" if self.remedy else text)


class RunError(RuntimeError):
    """A run that was set up correctly failed: diverged, out of memory, a worker lost. One line, exit code 1."""


def missing_extra(feature: str, extra: str) -> InputError:
    """The error for an optional dependency that is not installed, with the exact command that installs it."""
    return InputError(f"{feature} needs an optional dependency", remedy=f"pip install 'hyena-dna[{extra}]'")
