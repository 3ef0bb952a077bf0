"""Where pairs come from and how they become views."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from diptych.components import ADDED, Component
from diptych.config.ranges import (
    Above,
    Count,
    Factor,
    HalfTurn,
    Level,
    OwnPixels,
    Patches,
    Ranged,
    Seed,
    Share,
    ShareOfSome,
    Some,
    Workers,
    check_rising,
)
from diptych.errors import ConfigError

_UID = "uid"
"""Where DataComp's samples have their ids."""
_IPV6 = re.compile(r"://[^/]*(\[[^/]*:[^/\]]*\]?)")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig(Ranged):
    """The training crop of the `plain` image view, and light photometric noise."""

    flags = "--data.augment."

    scale: tuple[ShareOfSome, ShareOfSome] = (0.9, 1.0)
    """Share of the picture's area that the crop covers."""
    ratio: tuple[Above, Above] = (0.75, 4 / 3)
    """Width / height of the crop; relative to the picture's, where a model takes pictures of their
    own aspect."""
    flip: Share = 0.0
    """Probability of a left-right flip. Off: captions may say left and right."""
    shift: OwnPixels = 0
    """Pixels by which the finished crop is moved at random, edges repeated."""
    noise: Level = 0.0
    """Standard deviation of Gaussian noise, in grey levels (0-255)."""
    crops: Count = field(default=0, metadata=ADDED)
    """Each picture has so many crops, the same in all epochs, of which one is drawn each time: what
    a teacher says of them can be stored (`diptych reinforce`). 0: a new crop each time."""
    seed: Seed = field(default=0, metadata=ADDED)
    """Of these crops: another seed gives others."""

    def __post_init__(self):
        super().__post_init__()
        check_rising("--data.augment.", scale=self.scale, ratio=self.ratio)
        if self.seed and not self.crops:
            raise ConfigError(
                f"--data.augment.seed {self.seed} has no effect: it is that of numbered crops, of "
                "which --data.augment.crops says how many there are"
            )


@dataclass(frozen=True, kw_only=True)
class StrongConfig(Ranged):
    """The `strong` image view: by default MoCo v2's (Chen et al. 2020, arXiv:2003.04297), as SLIP
    and DeCLIP use it."""

    flags = "--data.strong."

    scale: tuple[ShareOfSome, ShareOfSome] = (0.2, 1.0)
    """Share of the picture's area that the crop covers. SimCLR and the SLIP paper: from 0.08."""
    ratio: tuple[Above, Above] = (0.75, 4 / 3)
    """Width / height of the crop."""
    flip: Share = 0.5
    """Probability of a left-right flip."""
    jitter: Share = 0.8
    """Probability that colours change, in random order."""
    brightness: Share = 0.4
    """A factor from 1 - this to 1 + this; contrast and saturation alike. SimCLR: 0.8."""
    contrast: Share = 0.4
    saturation: Share = 0.4
    hue: HalfTurn = 0.1
    """A turn by up to this share of the colour circle, either way. SimCLR: 0.2."""
    grey: Share = 0.2
    """Probability that the colours go."""
    blur: Share = 0.5
    """Probability of a Gaussian blur."""
    blur_sigma: tuple[Above, Above] = (0.1, 2.0)
    """Its standard deviation, in pixels."""

    def __post_init__(self):
        super().__post_init__()
        check_rising("--data.strong.", scale=self.scale, ratio=self.ratio)
        check_rising("--data.strong.", blur_sigma=self.blur_sigma)


@dataclass(frozen=True, kw_only=True)
class WordsConfig(Ranged):
    """The `augmented` (text augmentation) and `masked` (masked language modelling) text views."""

    flags = "--data.words."

    synonyms: str = ""
    """Where words find words to be replaced with: a text file, a group of synonyms a line, divided
    by commas; `wordnet`: NLTK's WordNet, whose data must be installed; empty: the everyday words
    that come with Diptych."""
    delete: Share = 0.1
    """Probability of each word to be left out, where deletion is drawn."""
    hide: Share = 0.15
    """Share of tokens that the `masked` view masks for masked language modelling (BERT, Devlin et
    al. 2018, arXiv:1810.04805)."""


@dataclass(frozen=True, kw_only=True)
class SourceConfig(Component, abstract=True):
    """The base of configurations of data sources of your own: the implementation is a
    `data.Source`, made of the configuration."""


@dataclass(frozen=True, kw_only=True)
class DataConfig(Ranged):
    """One source, or a mixture of them."""

    flags = "--data."

    path: str = ""
    """Shards `a/{000..099}.tar`, a table (`.csv`, `.tsv`, `.parquet`, `.jsonl`, `.json`), a folder
    of pictures with captions or of a sub-folder per class, shards at `s3://`, `hf://`, `https://`
    and the like, `pipe:COMMAND`, or `synthetic:COUNT`.
    Join several with `::`. docs/data.md shows what each may look like."""
    source: SourceConfig | None = None
    """A source of your own, in place of `path`: on the command line `--data.source
    package.module:Config`, then its fields as flags."""
    weights: tuple[Above, ...] = ()
    """Relative share of each `::`-joined source, which it has of every batch; empty: all are
    shuffled as one."""
    upsample: tuple[Above, ...] = field(default=(), metadata=ADDED)
    """The same, said by how often each source's samples come beside the others': 1 2 takes the
    second one's twice for once of the first one's."""
    resample: bool = False
    """Draw every sample anew, so that some come twice before others come once, as WebDataset's
    resampled shards do. Off: all of a source once, then all again in another order."""
    consecutive: Some = field(default=1, metadata=ADDED)
    """Samples that lie side by side and are read one after the other: runs of so many are shuffled
    in place of single samples, and over a thousand runs are mixed at any time. 1: every sample by
    itself. 256 is for shards on a network file system, which are read forward then."""
    share: ShareOfSome = field(default=1.0, metadata=ADDED)
    """Train on this share of each source's samples, drawn once by `share_seed`: a smaller share is
    part of a larger one. What is measured (`evaluation.pairs`) is whole."""
    share_seed: Seed = field(default=0, metadata=ADDED)
    """Another seed draws other samples."""
    keep: str = field(default="", metadata=ADDED)
    """A file of ids: train on the samples that have one of them. DataComp's `.npy` (`u8,u8`), an
    `.npy` of texts or whole numbers, an id a line (`.txt`), or a table with a column of them. An id
    that is listed twice comes twice an epoch. Of several `::`-joined sources one for all, or one
    each, an empty one for all that a source has."""
    keep_field: str = field(default=_UID, metadata=ADDED)
    """Where samples have these ids. Shards: ending, or field of the `.json`. Tables: the column.
    `__key__`: their keys, the names of members or the paths of pictures. One for all sources, or
    one each."""
    image_key: str = "jpg;jpeg;png;webp"
    """Shards: members that hold the picture, the first that is there. Tables: the column of the
    picture's path or bytes."""
    image_root: str = ""
    """Tables: the folder from which paths of pictures start, even those with a slash in front.
    Empty: the table's own, or where they are found near it. Of several `::`-joined sources one for
    all, or one each."""
    separator: str = ""
    """Text tables: what stands between columns, such as `;` or `\\t`. Empty: what the header says,
    of comma, tab, semicolon and bar."""
    caption_key: str = "txt;caption;text;title"
    """Shards: ending, or field of the `.json`, that holds the caption. Tables: its column."""
    class_names: str = ""
    """For pictures with a class in place of a caption (`.cls` in shards, sub-folders): a text file,
    one name a line, in class order. Folders use their own names when this is empty."""
    templates: tuple[str, ...] = ("a photo of a {}.",)
    """Captions of a class; one is drawn per sample and epoch."""
    patches: tuple[Patches, ...] = field(default=(), metadata=ADDED)
    """Of a model for pictures of their own aspect (NaFlex): the most patches of a picture. Of
    several one is drawn for each batch, alike; SigLIP 2's are 128 256 576 784 1024. Empty: the
    model's own (`preprocess.patches`). A model whose own isn't among them gets the largest."""
    augment: AugmentConfig = AugmentConfig()
    strong: StrongConfig = StrongConfig()
    strong_on: Literal["workers", "device"] = "workers"
    """Where colours and sharpness of `strong` views change: `device` relieves busy loaders. What is
    drawn is the same."""
    words: WordsConfig = WordsConfig()
    workers: Workers = 2
    """Loader processes per training process; 0 loads in the training process."""
    prefetch: Above = field(default=500.0, metadata=ADDED)
    """Megabytes of decoded pictures and texts by which a process's loader processes may be ahead
    of it; two batches each are the most that is used."""
    max_bad_share: Share = 0.01
    """The run stops when more than this share of the samples is bad, of those read so far, and of
    the first 1000, or all of a smaller source, while fewer are; fewer than 100 count as 100. A
    sample that is read again counts once."""
    cache: str = ""
    """Folder for shard indexes and piped shards; empty: `~/.cache/diptych`."""
    pipe_timeout: Factor = 600.0
    """`pipe:`: seconds in which a command may give nothing before it is ended; 0: however long."""
    pipe_limit: Factor = 100.0
    """`pipe:`: gigabytes that the outputs kept in the cache folder may take; 0: all that there
    are. Those used longest ago make room."""
    remote_limit: Factor = field(default=100.0, metadata=ADDED)
    """`s3://`, `hf://`, `https://` and the like: gigabytes of what was read that may be kept in the
    cache folder; 0: all that there is place for."""
    retries: Count = field(default=6, metadata=ADDED)
    """How often a remote read, or a `pipe:` command, that failed is tried again, after pauses that
    grow from a quarter of a second."""

    def __post_init__(self):
        sources = self.path.split("::")
        for name, numbers in (("weights", self.weights), ("upsample", self.upsample)):
            _check_mixture(f"--data.{name}", numbers, sources)
        super().__post_init__()
        if self.weights and self.upsample:
            raise ConfigError(
                "--data.weights and --data.upsample both say how the sources are mixed: leave one "
                "of them out"
            )
        if self.path and self.source is not None:
            raise ConfigError(
                f"--data.path {self.path} would be ignored: --data.source is set; leave one empty"
            )
        if address := _IPV6.search(self.path):
            raise ConfigError(
                f"the host {address[1]} in the path is a number with colons (IPv6), and :: joins "
                "sources; call the host by a name, such as one of /etc/hosts"
            )
        if self.image_root.count("::") not in (0, len(sources) - 1):
            raise ConfigError(
                f"the image root {self.image_root} must be one folder, or one for each of "
                f"{len(sources)} sources"
            )
        self._check_keep(len(sources))

    def _check_keep(self, sources: int) -> None:
        for flag, value in (("keep", self.keep), ("keep-field", self.keep_field)):
            if value.count("::") not in (0, sources - 1):
                raise ConfigError(
                    f"--data.{flag} {value} must be one for all, or one for each of {sources} "
                    "sources"
                )
        if not self.keep and self.keep_field != _UID:
            raise ConfigError(
                f"--data.keep-field {self.keep_field} has no effect: it says where samples have "
                "the ids of a file, which --data.keep names"
            )
        if not all(map(str.strip, self.keep_field.split("::"))):
            raise ConfigError(
                f"--data.keep-field {self.keep_field!r} must name a field of each source, or "
                "__key__ for its samples' keys"
            )


def _check_mixture(flag: str, numbers: tuple[float, ...], sources: Sequence[str]) -> None:
    """Raises ConfigError for numbers that mix no sources, naming the source."""
    if not numbers:
        return
    if len(numbers) != len(sources):
        raise ConfigError(
            f"{flag} has {len(numbers)} numbers for {len(sources)} sources in --data.path"
        )
    for number, source in zip(numbers, sources, strict=True):
        if not number > 0:
            address = source.strip().partition("?")[0]  # of a signed one the query is a secret
            raise ConfigError(
                f"{flag} {number:g} of {address} must be above 0; to take nothing of it, leave it "
                "out of --data.path"
            )
