"""What the zoo knows about a model."""

from dataclasses import dataclass

from diptych.config import ClipConfig


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A published number, and who published it."""

    metric: str
    value: float
    source: str


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A file of weights, somewhere on the Hugging Face hub."""

    repo: str
    """`org/name`."""
    file: str
    format: str
    """As `diptych convert` calls it: `open-clip` or `transformers`."""
    licence: str
    sha256: str = ""
    """Empty: not recorded here; the hub's own checksum is used."""
    claims: tuple[Claim, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A named model."""

    name: str
    config: ClipConfig
    weights: tuple[Weights, ...] = ()
    aliases: tuple[str, ...] = ()
    """Other names that find it, beside its own; spelling is compared without case, `/`, `_` and `@` read as `-`."""
