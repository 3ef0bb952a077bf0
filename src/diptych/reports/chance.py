"""What guessing would give: the line below which a model has learned nothing."""

from diptych.evaluation import Result

_PAIRS = {"choice": 1 / 2, "text": 1 / 4, "image": 1 / 4, "group": 1 / 6, "auc": 1 / 2}
"""Of two captions; of two pictures and two captions, as Winoground counts (arXiv:2204.03162)."""


def chance(result: Result) -> dict[str, float]:
    """For each figure that is known to have one, its expected value if all answers were drawn by
    lot.

    >>> from diptych.evaluation import Result
    >>> from diptych.reports.chance import chance
    >>> common = {"protocol": {}, "data": {}, "model": {}, "class_names": ("cat", "dog")}
    >>> chance(Result(task="zero-shot", metrics={"top1": 0.9}, **common))
    {'top1': 0.5}
    """
    known = _retrieval(result) if result.task == "retrieval" else _classes(result)
    return {name: value for name, value in known.items() if name in result.metrics}


def _classes(result: Result) -> dict[str, float]:
    count = len(result.class_names)
    if not count:
        return _PAIRS
    first, fifth = 1 / count, min(1.0, 5 / count)
    mean = {"mean_per_class": first, "mean_top1_top5": (first + fifth) / 2}
    return _PAIRS | {"top1": first, "top5": fifth} | mean


def _retrieval(result: Result) -> dict[str, float]:
    pictures = result.data.get("used", 0)
    captions = result.protocol.get("captions", 0)
    if not (pictures and captions):
        return {}
    found = dict[str, float]()
    for k in (1, 5, 10):
        found[f"text_to_image_r{k}"] = min(1.0, k / pictures)
        found[f"image_to_text_r{k}"] = 1 - _none_of(captions / pictures, captions, k)
    return found | {"mean_recall": sum(found.values()) / len(found)}


def _none_of(own: float, captions: int, k: int) -> float:
    """The chance that none of `own` captions is among the first k of all: the product over the k
    places of the share of others among those that are left."""
    none = 1.0
    for place in range(min(k, captions)):
        none *= max(0.0, captions - own - place) / (captions - place)
    return none
