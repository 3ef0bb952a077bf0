"""Texts as vectors, each distinct one encoded once: 292,316 prompts of 27 sets are 98,919."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from diptych.distributed import Peers, together
from diptych.encoder.cache import Cache, CacheEntry, digest
from diptych.encoder.encoder import Encoder
from diptych.inputs import Tokenizer

ROWS = 4096
"""Texts in an entry of the cache."""
_READ = ("A photo of 2 small Dogs, café-owners' & naïve: 10:30!", "日本語 и ещё слова", "")
"""Texts that two tokenizers hardly read alike."""


def reading(tokenizer: Tokenizer) -> str:
    """A digest of how a tokenizer reads texts: a model's configuration doesn't say it all, where
    the tokenizer comes from files, or from the caller.

    >>> from diptych.encoder.texts import reading
    >>> from diptych.inputs import ClipTokenizer
    >>> reading(ClipTokenizer()) == reading(ClipTokenizer()) != reading(ClipTokenizer(20))
    True
    """
    ids = [*map(tokenizer.encode, _READ)]
    return digest(ids, tokenizer.context_length, tokenizer.vocab_size, tokenizer.pad_id)


class Texts:
    """A model's vectors of texts, in a cache. With `peers`, every process encodes its share; all of
    them ask alike.

    >>> from diptych import Encoder, models, pretrained
    >>> from diptych.encoder import Cache, Texts
    >>> texts = Texts(Encoder(models.build(pretrained.get("tiny"))), Cache())
    >>> texts(["a cat", "a dog", "a cat"]).shape, len(texts)
    (torch.Size([3, 128]), 2)
    """

    def __init__(
        self, encoder: Encoder, cache: Cache, peers: Peers | None = None, *, progress: bool = False
    ):
        self._encoder, self._cache, self._progress = encoder, cache, progress
        self._peers = peers or Peers()
        key = digest("texts", encoder.identity.fingerprint, reading(encoder.tokenizer))
        self._kind = f"texts/{key}"
        self._rows = dict[str, int]()
        self._vectors = torch.zeros(0, encoder.width)
        # The first process says what there is: another may already have added to the folder.
        [places, *_] = self._peers.all_gather_objects(cache.places(self._kind))
        self._load(places)

    def __len__(self) -> int:
        return len(self._rows)

    def __call__(self, texts: Iterable[str]) -> Float[Tensor, "texts width"]:
        """One unit vector a text, in order. Raises DataError if the cache can't be written."""
        texts = list(texts)
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        if new:
            self._encode([new[start : start + ROWS] for start in range(0, len(new), ROWS)])
        return self._vectors[[self._rows[text] for text in texts]]

    def _encode(self, chunks: Sequence[list[str]]) -> None:
        def work() -> None:
            for chunk in chunks[self._peers.rank :: self._peers.size]:
                rows = list(map(self._encoder.tokenizer.encode, chunk))
                vectors = self._encoder.embed_ids(rows, progress=self._progress)
                entry = CacheEntry(tensors={"vectors": vectors}, about={"texts": chunk})
                self._cache.write(self._place(chunk), entry)

        together(self._peers, work)
        places = [self._place(chunk) for chunk in chunks]
        self._cache.share(places, self._peers)
        self._load(places)

    def _place(self, texts: Sequence[str]) -> str:
        return f"{self._kind}/{digest(*texts)}"

    def _load(self, places: Sequence[str]) -> None:
        parts = [self._vectors]
        for entry in filter(None, map(self._cache.read, places)):
            start = sum(map(len, parts))
            self._rows |= {text: start + row for row, text in enumerate(entry.about["texts"])}
            parts.append(entry.tensors["vectors"])
        self._vectors = torch.cat(parts)
