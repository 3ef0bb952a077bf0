"""What was published for weights like a load's: its expectations."""

from collections.abc import Iterator
from dataclasses import replace

from diptych import pretrained
from diptych.config import ClipConfig
from diptych.config.serialize import difference
from diptych.diagnosis.load import Load
from diptych.encoder import Encoder
from diptych.errors import ConfigError
from diptych.inputs import Preprocess, tokenizer_of
from diptych.weights.assemble import assemble
from diptych.weights.state import State

_FREE = {"activation", "heads", "context_length"}
"""Fields of a tower in which weights of the same shapes may differ."""


def expected(load: Load) -> Load:
    """The load's weights as the model is published that its name means, or else the nearest that
    has towers of its sizes. Raises ConfigError where there is none."""
    found = pretrained.identify(load.name)
    known = found.config if found else None
    if not isinstance(known, ClipConfig):
        near = sorted(_alike(load.config), key=lambda each: len(difference(each[1], load.config)))
        if not near:
            raise ConfigError(
                f"no published model has the name or the towers of {load.name}, so nothing says "
                "what to expect of it; name a second load to compare it with"
            )
        name, known = near[0]
    else:
        assert found is not None
        name = found.name
    model = assemble(State.of(load.weights), known, dtype=load.dtype)
    preprocess = Preprocess(known.preprocess, known.image.image_size)
    encoder = Encoder(model, tokenizer_of(known), preprocess, name=f"as {name} is published")
    return replace(Load.of(encoder), weights=load.weights)


def _alike(config: ClipConfig) -> Iterator[tuple[str, ClipConfig]]:
    for name in pretrained.names():
        other = pretrained.entry(name).config
        if not isinstance(other, ClipConfig) or other.embed_dim != config.embed_dim:
            continue
        towers = ((config.image, other.image), (config.text, other.text))
        apart = [difference(*pair).keys() for pair in towers]
        if apart[0] <= _FREE and apart[1] <= _FREE:
            yield name, other
