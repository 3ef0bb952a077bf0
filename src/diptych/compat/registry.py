"""open_clip's tables of models and of published weights, which scripts read and write."""

from collections.abc import Iterator, MutableMapping
from typing import Any

from diptych.compat.listing import (
    add_config,
    added,
    configurations,
    forget_config,
    get_model_config,
    get_pretrained_cfg,
    list_pretrained,
)


class ModelConfigs(MutableMapping[str, dict[str, Any]]):
    """What open_clip's JSON says of each model, by name. A configuration that is put in is known
    to all functions that take a model's name; what is taken out is a copy.

    >>> from diptych import compat
    >>> from diptych.compat.factory import _MODEL_CONFIGS
    >>> _MODEL_CONFIGS["mine"] = _MODEL_CONFIGS["ViT-B-32"] | {"embed_dim": 32}
    >>> compat.create_model("mine", load_weights=False).visual.output_dim
    32
    >>> del _MODEL_CONFIGS["mine"]
    """

    def __getitem__(self, name: str) -> dict[str, Any]:
        found = get_model_config(name) if name in self else None
        if found is None:
            raise KeyError(name)
        return found

    def __setitem__(self, name: str, config: dict[str, Any]) -> None:
        """Raises CheckpointError for what describes no model."""
        add_config(name, config)

    def __delitem__(self, name: str) -> None:
        """Raises KeyError for what wasn't put in."""
        forget_config(name)

    def __contains__(self, name: object) -> bool:
        return name in configurations() or name in added()

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*configurations(), *added())))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)})"


def pretrained_by_model() -> dict[str, dict[str, dict[str, Any]]]:
    """`get_pretrained_cfg` of each model and tag."""
    found = dict[str, dict[str, dict[str, Any]]]()
    for model, tag in list_pretrained():
        found.setdefault(model, {})[tag] = get_pretrained_cfg(model, tag)
    return found
