"""What is known of the weights of a text tower of `transformers`."""

from diptych.families.huggingface.config import HuggingFaceTextConfig
from diptych.weights.state import State
from diptych.weights.tower import TowerWeights

_SHARED, _ENCODER = "trunk.shared.weight", "trunk.encoder."


class HuggingFaceTextWeights(TowerWeights):
    """Names are those that transformers gives the trunk."""

    def in_form(
        self, state: State, config: HuggingFaceTextConfig
    ) -> tuple[State, HuggingFaceTextConfig]:
        """Older versions wrote T5's trunk with the table that its decoder would have shared."""
        if _SHARED not in state:
            return state, config
        named = {name: lazy for name, lazy in state.lazies.items() if name != _SHARED}
        return State({n.replace(_ENCODER, "trunk.", 1): lazy for n, lazy in named.items()}), config
