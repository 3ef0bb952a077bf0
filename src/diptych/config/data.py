"""Where pairs come from and how they become views."""

from dataclasses import dataclass

from diptych.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """The training crop of the `plain` image view, and light photometric noise."""

    scale: tuple[float, float] = (0.9, 1.0)
    """Share of the picture's area that the crop covers."""
    ratio: tuple[float, float] = (0.75, 4 / 3)
    """Width / height of the crop."""
    flip: float = 0.0
    """Probability of a left-right flip. Off: captions may say left and right."""
    shift: int = 0
    """Pixels by which the finished crop is moved at random, edges repeated."""
    noise: float = 0.0
    """Standard deviation of Gaussian noise, in grey levels (0-255)."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """One source, or a mixture of them."""

    path: str = ""
    """Shards `a/{000..099}.tar`, a table (`.csv`, `.tsv`, `.parquet`, `.jsonl`), a folder with a sub-folder per class,
    `pipe:COMMAND`, or `synthetic:COUNT`. Join several with `::`."""
    weights: tuple[float, ...] = ()
    """Relative share of each `::`-joined source; empty: each by its size."""
    image_key: str = "jpg;jpeg;png;webp"
    """Shards: file endings that hold the picture. Tables: the column of the picture's path or bytes."""
    caption_key: str = "txt;caption;text;title"
    """Shards: ending, or field of the `.json`, that holds the caption. Tables: its column."""
    class_names: str = ""
    """For pictures with a class in place of a caption (`.cls` in shards, sub-folders): a text file, one name a line,
    in class order. Folders use their own names when this is empty."""
    templates: tuple[str, ...] = ("a photo of a {}.",)
    """Captions of a class; one is drawn per sample and epoch."""
    augment: AugmentConfig = AugmentConfig()
    workers: int = 2
    """Loader processes per training process; 0 loads in the training process."""
    max_bad_share: float = 0.01
    """The run stops when more than this share of the samples read so far (after the first 1000) is broken."""
    cache: str = ""
    """Folder for shard indexes and piped shards; empty: `~/.cache/diptych`."""

    def __post_init__(self):
        sources = self.path.split("::")
        if self.weights and len(self.weights) != len(sources):
            raise ConfigError(f"data.weights has {len(self.weights)} numbers for {len(sources)} sources in data.path")
        if any(weight <= 0 for weight in self.weights):
            raise ConfigError(f"data.weights {self.weights} must all be above 0")
        if not 0 <= self.max_bad_share <= 1:
            raise ConfigError(f"data.max_bad_share {self.max_bad_share} must lie in [0, 1]")
