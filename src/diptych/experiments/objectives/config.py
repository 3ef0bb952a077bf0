"""What the objectives benchmark can be asked for."""

from dataclasses import dataclass

from diptych.config.ranges import Above, Count, Ranged, ShareOfSome, Some
from diptych.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ObjectivesConfig(Ranged):
    """Train every objective alike: the same towers, data, batch, steps, optimiser and seeds."""

    flags = "--"

    data: str = "digits"
    """digits: the demo's scenes of real handwriting. scenes: of one to three digits each, in rich
    captions (numbers, relations, colours, sizes, several phrasings). Else training pairs: shards, a
    table or a folder of classes."""
    test: str = ""
    """Labelled pictures that are held back; not for digits and scenes."""
    class_names: str = ""
    """A text file, one name a line, in class order; not for digits and scenes, and a folder can do
    without."""
    templates: tuple[str, ...] = ("a photo of a {}.",)
    """Captions of a class; not for digits and scenes."""
    objectives: tuple[str, ...] = ("clip", "slip", "declip", "filip", "defilip")
    """Of clip, siglip, slip, declip, filip, defilip, and your own: package.module:Config."""
    shares: tuple[ShareOfSome, ...] = (1.0,)
    """Shares of the data, each for every objective; the smaller are part of the larger, and all see
    as many samples."""
    seeds: Some = 3
    """Runs of each objective, from different random numbers; the intervals come from them."""
    budget: Above = 60.0
    """Minutes for all runs together; the steps that fit in are the same for everyone."""
    steps: Count = 0
    """Steps of each run, whatever the budget; 0: by the budget."""
    jobs: Some = 1
    """Runs at a time, each with its share of the cores."""
    points: Some = 10
    """Evaluations on the way: the points of the curves."""
    out: str = "benchmark"
    """Folder of everything that the benchmark writes."""

    def __post_init__(self):
        super().__post_init__()
        if len(set(self.shares)) < len(self.shares) or not self.shares:
            raise ConfigError("--shares takes different shares, such as 1 0.25")
        if len(set(self.objectives)) < len(self.objectives):
            raise ConfigError("--objectives takes each objective once")
        if self.data not in ("digits", "scenes") and not self.test:
            raise ConfigError(
                "give --test, labelled pictures to measure with; or --data digits or scenes, "
                "which have their own"
            )
