"""An `Encoder` as a model of mteb (https://github.com/embeddings-benchmark/mteb, version 2), whose
picture tasks are the field's other collection of them.

    import mteb
    from diptych.compat.mteb import MtebModel

    model = MtebModel("eva02-clip-b-16")
    mteb.evaluate(model, mteb.get_tasks(tasks=["CIFAR10ZeroShot", "Flickr30kI2TRetrieval"]))

`diptych report` and `diptych.evaluation.read_mteb` read what it writes.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from diptych.encoder import Encoder, load
from diptych.errors import ConfigError


class MtebModel:
    """mteb's `EncoderProtocol` over an `Encoder`, or over what `diptych.load` takes.

    A row of mteb's data that has a text and a picture gets the sum of both vectors, of unit length,
    as mteb's own CLIP models do it. Prompts of mteb's are for other kinds of models, and aren't put
    before texts.

    >>> import torch
    >>> from diptych import Encoder, models, pretrained
    >>> from diptych.compat.mteb import MtebModel
    >>> model = MtebModel(Encoder(models.build(pretrained.get("tiny"))))
    >>> vectors = model.encode([{"text": ["a cat", "a dog"]}, {"text": ["a cat"]}])
    >>> vectors.shape, bool(model.similarity(vectors, vectors)[0, 2] > 0.999)
    (torch.Size([3, 128]), True)
    """

    def __init__(
        self,
        model: Encoder | str | Path,
        revision: str | None = None,
        *,
        device: str | None = None,
        **options: Any,
    ):
        if isinstance(model, Encoder):
            if revision or device or options:
                raise ConfigError(
                    "revision, device and options are for loading a model, and this Encoder is "
                    "loaded: give them to diptych.load"
                )
            self.encoder = model
        else:
            place = f"{model}@{revision}" if revision else model
            self.encoder = load(place, device, **options)

    def encode(
        self, inputs: Iterable[Mapping[str, Any]], *, batch_size: int = 32, **others: Any
    ) -> Float[Tensor, "rows width"]:
        """Unit vectors of batches with `text`, `image`, or both; what else mteb says of its task
        changes nothing. Raises ConfigError for batches of neither (sound, video)."""
        parts = [self._encode(batch, batch_size) for batch in inputs]
        return torch.cat(parts) if parts else torch.zeros(0, self.encoder.width)

    def _encode(self, batch: Mapping[str, Any], batch_size: int) -> Tensor:
        found = list[Tensor]()
        if batch.get("text") is not None:
            found.append(self.encoder.embed_texts(batch["text"]))
        if batch.get("image") is not None:
            found.append(self.encoder.embed_images(batch["image"], batch_size))
        if not found:
            raise ConfigError(
                f"a batch has {', '.join(batch) or 'nothing'}, and these models read text and image"
            )
        return normalize(torch.stack(found).sum(0), dim=-1)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Float[Tensor, "first second"]:
        """Cosines of all pairs."""
        return _unit(embeddings1) @ _unit(embeddings2).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Float[Tensor, " rows"]:
        """Cosines of row with row."""
        return (_unit(embeddings1) * _unit(embeddings2)).sum(-1)

    @property
    def mteb_model_meta(self) -> Any:
        """Name, revision (the weights' fingerprint) and sizes, by which mteb files its results.
        Raises ConfigError where mteb isn't installed."""
        try:
            from mteb.models.model_meta import ModelMeta, ScoringFunction
        except ImportError as error:
            raise ConfigError("mteb isn't installed: `pip install 'diptych[mteb]'`") from error
        encoder = self.encoder
        name = Path(encoder.name).name if Path(encoder.name).is_absolute() else encoder.name
        name = name.removeprefix("hf-hub:")
        known = {
            "name": name if name.count("/") == 1 else f"diptych/{name.replace('/', '-')}",
            "revision": encoder.identity.fingerprint[:12],
            "max_tokens": encoder.tokenizer.context_length,
            "embed_dim": encoder.width,
            "n_parameters": sum(each.numel() for each in encoder.model.parameters()),
            "framework": ["PyTorch"],
            "modalities": ["image", "text"],
            "similarity_fn_name": ScoringFunction.COSINE,
        }
        return ModelMeta.create_empty(overwrites=known)


def _unit(vectors: Any) -> Tensor:
    rows = torch.as_tensor(vectors).float()
    return normalize(rows if rows.ndim == 2 else rows[None], dim=-1)
