"""Captions beyond the context: counted over a run, and said once."""

import warnings
from collections.abc import Sequence

from diptych.errors import TruncationWarning


class TruncatedCaptions:
    """What a process has met so far: `count` captions of which only the beginning was read. The
    first is a TruncationWarning, unless `quiet`.

    >>> from diptych.data.truncated import TruncatedCaptions
    >>> captions = TruncatedCaptions(context=77, quiet=True)
    >>> captions.add(["word " * 100])
    >>> captions.count
    1
    """

    def __init__(self, context: int, quiet: bool = False):
        self.count = 0
        self._context, self._quiet = context, quiet

    def add(self, captions: Sequence[str]) -> None:
        """Count the truncated captions of a batch."""
        if captions and not self.count and not self._quiet:
            warnings.warn(
                f"captions are longer than the context of {self._context} tokens, and their ends "
                "have no effect; metrics.jsonl counts them (truncated_captions); the first is "
                f"{captions[0]!r}",
                TruncationWarning,
                stacklevel=2,
            )
        self.count += len(captions)
