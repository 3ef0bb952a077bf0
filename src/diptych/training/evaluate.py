"""Zero-shot accuracy of a model that is being trained."""

from collections.abc import Callable

from diptych.config import DataConfig, EvaluationConfig
from diptych.distributed import Peers
from diptych.encoder import Encoder
from diptych.evaluation import evaluate
from diptych.models import Clip


def evaluator(config: EvaluationConfig, peers: Peers) -> Callable[[Clip], dict[str, float]]:
    """A function from a model to its top-1, top-5 and mean per class on the pictures that `config`
    names.

    Every process calls it, and encodes its share of the pictures.
    """
    data = DataConfig(path=config.path, class_names=config.class_names, templates=config.templates)

    def measure(model: Clip) -> dict[str, float]:
        return dict(
            evaluate(Encoder(model), "zero-shot", data, limit=config.limit, peers=peers).metrics
        )

    return measure
