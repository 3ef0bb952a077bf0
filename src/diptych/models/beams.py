"""Which caption to write: greedy and beam search."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

Ids = tuple[int, ...]
NextLogits = Callable[[Int[Tensor, "texts length"]], Float[Tensor, "texts vocabulary"]]
"""Texts -> logits of the next token of each. All pictures have as many texts, beside each other."""


class Limits(NamedTuple):
    """Tokens of a caption, the start included."""

    start: int
    """Id of the token before the first word."""
    end: int
    """Id of the token behind the last word."""
    least: int
    """The end isn't written before so many."""
    most: int


def search(
    next_logits: NextLogits,
    pictures: int,
    beams: int,
    limits: Limits,
) -> list[Ids]:
    """The best caption of each picture. `next_logits` is asked of `beams` texts to each.

    A text's score is the sum of its tokens' logits, over their number once it has ended, as the
    captions of open_clip's CoCa are searched. A picture is done when `beams` of its texts have
    ended, and none that hasn't scores better. One beam is greedy search, which keeps the last place
    for the end.

    >>> import torch
    >>> from diptych.models.beams import Limits, search
    >>> def next_logits(ids):  # 1 after 0, 2 after 1, 3 (the end) after 2
    ...     return torch.eye(5)[(ids[:, -1] + 1).clamp(max=3)]
    >>> search(next_logits, pictures=1, beams=1, limits=Limits(start=0, end=3, least=1, most=9))
    [(0, 1, 2, 3)]
    """
    ids = torch.full((pictures, beams, 1), limits.start)
    scores = torch.full((pictures, beams), -torch.inf)
    scores[:, 0] = 0  # all begin alike: the others would be copies
    found = [_Ended(beams) for _ in range(pictures)]
    most = limits.most - 1 if beams == 1 else limits.most
    while ids.shape[2] < most and not all(each.done for each in found):
        logits = next_logits(ids.flatten(0, 1)).float().cpu().view(pictures, beams, -1)
        if ids.shape[2] < limits.least:
            logits[..., limits.end] = -torch.inf
        # Twice as many as needed: an end takes no place of those that go on.
        totals = (scores[..., None] + logits).flatten(1)
        best, places = totals.topk(2 * beams)
        rows = []
        for picture, each in enumerate(found):
            candidates = zip(best[picture].tolist(), places[picture].tolist(), strict=True)
            splits = [(score, *divmod(place, logits.shape[2])) for score, place in candidates]
            rows.append(each.extend(ids[picture].tolist(), splits, limits.end))
        ids = torch.tensor([[text for _, text in row] for row in rows])
        scores = torch.tensor([[score for score, _ in row] for row in rows])
    return [each.best(ids[i].tolist(), scores[i].tolist()) for i, each in enumerate(found)]


class _Ended:
    """The best texts of one picture that have ended."""

    def __init__(self, beams: int):
        self.beams = beams
        self.texts: list[tuple[float, Ids]] = []
        self.done = False

    def add(self, score: float, text: Ids) -> None:
        """Keep it, where it is one of the best."""
        self.texts = sorted([*self.texts, (score, text)], key=lambda each: -each[0])[: self.beams]

    def extend(
        self, texts: list[list[int]], candidates: list[tuple[float, int, int]], end: int
    ) -> list[tuple[float, list[int]]]:
        """The texts that go on, with their scores: each candidate, the best first, is a score, a
        text's number and its next token."""
        length = len(texts[0]) + 1
        going: list[tuple[float, list[int]]] = []
        for rank, (score, number, token) in enumerate(candidates):
            if token != end:
                going.append((score, [*texts[number], token]))
            elif rank < self.beams and not self.done:
                self.add(score / length, (*texts[number], end))
            if len(going) == self.beams:
                break
        full = len(self.texts) == self.beams
        self.done = self.done or (full and self.texts[-1][0] >= candidates[0][0] / length)
        return going

    def best(self, texts: list[list[int]], scores: list[float]) -> Ids:
        """The best of those that have ended, and of those that haven't where the search wasn't
        done."""
        for text, score in zip(texts, scores, strict=True) if not self.done else ():
            self.add(score / len(text), tuple(text))
        return self.texts[0][1]
