"""From anything that names weights to a model."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diptych import models, zoo
from diptych.checkpoints import native
from diptych.checkpoints.detect import native_folder, open_foreign
from diptych.checkpoints.fetch import HUB, fetch
from diptych.checkpoints.native import Meta
from diptych.checkpoints.rename import check_fit
from diptych.checkpoints.state import State
from diptych.checkpoints.surgery import resize
from diptych.config import ClipConfig
from diptych.errors import CheckpointError, ConfigError, UnknownNameError, first_line
from diptych.models import Clip


class Loaded(NamedTuple):
    """A model, ready for evaluation, and what its checkpoint says."""

    model: Clip
    meta: Meta

    @property
    def config(self) -> ClipConfig:
        """The model's configuration."""
        return self.meta.config

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the weights come from."""
        return self.meta.provenance


def load_model(
    path: str | Path,
    *,
    config: ClipConfig | str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    image_size: int | None = None,
) -> Loaded:
    """The model at `path`: a checkpoint file or folder of any known format, a run folder (its newest complete
    checkpoint), `hf-hub:org/name[@revision]`, or a name of the zoo whose weights are published.

    `config` (or a zoo name) overrules what stands beside foreign weights, which don't say everything about themselves.
    `dtype` None: float32. `image_size` resizes the position table. The model is in evaluation mode; on the CPU its
    weights are memory-mapped from the file.

    Raises CheckpointError, in one sentence, for weights that are missing, damaged, would execute code, are of another
    model or hold NaN; UnknownNameError, with near misses, for a name that nothing answers to.
    """
    if isinstance(config, str):
        config = zoo.get(config)
    state, meta = read_model(path, config=config)
    config = meta.config
    if image_size is not None:
        state, config = resize(state, config, image_size)
    try:
        model = assemble(state, config, device=device, dtype=dtype)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}; is it a checkpoint of another model?") from error
    return Loaded(model, replace(meta, config=config))


def read_model(path: str | Path, *, config: ClipConfig | None = None) -> tuple[State, Meta]:
    """Weights under our names, in the dtype in which they are stored, and their description. See `load_model`."""
    path, config, notes = _locate(path, config)
    folder = native_folder(path)
    if folder is not None:
        state, meta = native.read(folder)
        return state, meta if config is None else replace(meta, config=config)
    source, found = open_foreign(path)
    try:
        state = found.table(source.weights.tensors).to_ours(source.weights.tensors)
        if config is None:
            config, told = found.config(source, state)
            notes |= told
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"{path}, read as {found.name}: {error}") from error
    notes |= {"source": path.name, "format": found.name}
    return state, Meta(config=config, provenance=notes, file=source.file)


def assemble(
    state: State, config: ClipConfig, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> Clip:
    """A model in evaluation mode that holds these very tensors (cast and moved only where needed).

    Raises CheckpointError for names or shapes that don't fit the configuration, and for values that aren't finite.
    """
    try:
        model = models.build(config, device="meta")
    except (RuntimeError, TypeError) as error:
        raise CheckpointError(f"its configuration can't be built ({first_line(error)})") from error
    expected = model.state_dict()
    check_fit(state.shapes, expected)
    _check_finite(state)
    weights = {name: _placed(tensor, device, dtype or torch.float32) for name, tensor in state.items()}
    # Towers of other libraries may compute tables when they are built, which aren't stored, and share parameters.
    computed = any(name not in expected for name, _ in model.named_buffers())
    shared = len(list(model.named_parameters(remove_duplicate=False))) > len(list(model.parameters()))
    if computed or shared:
        model = models.build(config, device="cpu", dtype=dtype, init=False)
    model.load_state_dict(weights, assign=not shared)
    return model.to(device).eval()


def _placed(tensor: Tensor, device: str | torch.device, dtype: torch.dtype) -> Tensor:
    return tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype)


def _check_finite(state: State) -> None:
    for name, tensor in state.items():
        if tensor.is_floating_point() and tensor.numel():
            if tensor.itemsize == 1:
                raise CheckpointError(f"{name} is of {tensor.dtype}; weights are read in 16, 32 and 64 bits")
            low, high = torch.aminmax(tensor)  # NaN passes through; no array of flags is made
            if not (torch.isfinite(low) and torch.isfinite(high)):
                raise CheckpointError(f"{name} holds values that aren't finite (NaN or infinity)")


def _locate(path: str | Path, config: ClipConfig | None) -> tuple[Path, ClipConfig | None, dict[str, Any]]:
    """The local path that a name means, the zoo's configuration for it, and notes for the provenance."""
    if Path(path).exists():
        return Path(path), config, {}
    name = str(path)
    if name.startswith(HUB):
        return fetch(name), config, {"name": name}
    try:
        entry = zoo.entry(name)
    except UnknownNameError as error:
        if Path(name).suffix or (len(Path(name).parts) > 1 and Path(name).parent.exists()):
            raise CheckpointError(f"there is no file or folder {name}, nor a model of that name") from error
        raise
    if not entry.weights:
        raise CheckpointError(
            f"no published weights are known for {entry.name}; give a checkpoint file or folder instead"
        )
    weights = entry.weights[0]
    local = fetch(f"{HUB}{weights.repo}", file=weights.file, sha256=weights.sha256)
    return local, config or entry.config, {"name": entry.name, "repo": weights.repo, "licence": weights.licence}
