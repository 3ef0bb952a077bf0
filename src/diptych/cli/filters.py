"""Flags that say among which pictures of an index is looked."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

if TYPE_CHECKING:
    from diptych.search import Where


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Only pictures that fulfil all of it."""

    inside: Annotated[tuple[str, ...], arg(name="in", metavar="FOLDER...")] = ()
    """Only what lies in or below one of these folders or shards; '*beach*': of any folder or file
    that is called so."""
    after: str = ""
    """Only pictures from this date on, such as 2024, 2024-05 or 2024-05-31T12:00: when they were
    taken, or else when their files were last written."""
    before: str = ""
    """Only pictures from before this date."""
    larger: str = ""
    """Only pictures of so many bytes (200kB, 1.5MB) or pixels (2MP) or more."""
    smaller: str = ""
    """Only pictures of fewer bytes or pixels."""
    where: tuple[str, ...] = ()
    """Only pictures of which this is known: 'year>=2020' 'camera=Canon*' 'caption~dog', with
    = != < <= > >= or ~ (contains)."""

    def chosen(self) -> "Where | None":
        """What the flags ask for; None: nothing. Raises ConfigError."""
        from diptych.search import Where

        return Where.of(self.inside, self.after, self.before, self.larger, self.smaller, self.where)
