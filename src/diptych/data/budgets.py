"""How many patches the pictures of a batch have at the most, where they keep their aspect."""

from collections.abc import Sequence

import numpy as np

_KEY = 0x4E61  # so that no other generator of the same seed and step draws the same


def draw_budget(budgets: Sequence[int], seed: int, step: int) -> int:
    """One of `budgets`, each alike: a function of the seed and the step, in whatever process
    (SigLIP 2, Tschannen et al. 2025, arXiv:2502.14786, §2.4.2).

    >>> from diptych.data.budgets import draw_budget
    >>> [draw_budget((128, 256, 576), seed=0, step=step) for step in range(6)]
    [576, 576, 576, 256, 576, 576]
    """
    if len(budgets) == 1:
        return budgets[0]
    rng = np.random.default_rng((_KEY, seed % (1 << 64), step))
    return budgets[int(rng.integers(len(budgets)))]
