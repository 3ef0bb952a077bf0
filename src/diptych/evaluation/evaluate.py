"""From a model and a labelled or captioned set to a Result."""

import os
from collections.abc import Sequence

from diptych.config import DataConfig
from diptych.datasets import open_own
from diptych.distributed import Peers
from diptych.encoder import Cache, Encoder
from diptych.evaluation.measure import Engine, Task, views_of
from diptych.evaluation.result import Result


def evaluate(
    encoder: Encoder,
    task: str,
    data: DataConfig | str | os.PathLike[str],
    *,
    class_names: str | os.PathLike[str] | Sequence[str] = (),
    templates: str | Sequence[str] = (),
    resize: str = "",
    batch_size: int = 64,
    limit: int = 0,
    progress: bool = False,
    cache: Cache | None = None,
    peers: Peers | None = None,
) -> Result:
    """Measure `encoder` on a folder of class folders, a table or shards.

    `zero-shot` needs labels and class names: `class_names` is a sequence, or a file with one a
    line; empty, the data's own. `templates` is a set's name ("simple", "openai-7"), one template or
    several; empty, the data's. `retrieval` needs captions; a picture may have several. `resize` is
    "crop" or "squash"; empty: as the model was trained. `limit` uses the first so many samples; 0:
    all. What `cache` has isn't encoded again. With `peers` every process encodes its share of the
    pictures and all get the same result.

    Samples that can't be used are left out and listed in the result. Raises DataError if more than
    `data.max_bad_share` of them can't be, ConfigError or UnknownNameError for a request that
    doesn't fit.

    >>> import diptych
    >>> from diptych import models, zoo
    >>> encoder = diptych.Encoder(models.build(zoo.get("tiny")))
    >>> result = diptych.evaluate(encoder, "zero-shot", "synthetic:16")
    >>> result.data["used"], sorted(result.metrics)
    (16, ['mean_per_class', 'top1', 'top5'])
    """
    subject = open_own(data, task, class_names=class_names, templates=templates)
    engine = Engine(
        cache=cache or Cache(),
        batch_size=batch_size,
        limit=limit,
        progress=progress,
        peers=peers or Peers(),
    )
    [view] = views_of(encoder, (resize,) if resize else ()).values()
    [result] = engine.measure(Task(name=subject.name, subjects={"test": subject}), [view])
    return result
