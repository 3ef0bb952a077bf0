"""What two loads of "the same" model differ in first, and the cosine that each difference costs."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from diptych.diagnosis.differences import Difference, differences
from diptych.diagnosis.expected import expected
from diptych.diagnosis.load import Load
from diptych.diagnosis.probes import TEXTS, pictures
from diptych.diagnosis.setting import Cosines, lowest
from diptych.diagnosis.side import Side
from diptych.encoder import Encoder


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What `diagnose` found."""

    a: str
    b: str
    differences: tuple[Difference, ...]
    """In the order in which data meets the parts of a model that was loaded: its weights, how they
    are computed, its inputs, its outputs."""
    cosines: Cosines | None
    """The lowest between the two loads as they are; None: their vectors have other widths."""
    remarks: tuple[str, ...]
    """What else a user of either should know."""

    @property
    def first(self) -> Difference | None:
        """What differs first; None: nothing does."""
        return next(iter(self.differences), None)

    @property
    def costliest(self) -> Difference | None:
        """What costs the most; None: nothing that changes a vector differs."""
        known = [(min(each.cosines), each) for each in self.differences if each.cosines]
        return min(known, key=lambda pair: pair[0])[1] if known else None


def diagnose(
    a: Load | Encoder,
    b: Load | Encoder | None = None,
    *,
    images: Sequence[Image.Image] = (),
    texts: Sequence[str] = (),
) -> Diagnosis:
    """Compare two loads, part by part: in the first load one part after the other is exchanged for
    the second's, and the cosines with the first load's vectors say what that costs.

    `b` None: the first beside what was published for its name, or for towers of its sizes. A load
    of open_clip, transformers or other code: `from_open_clip`, `from_transformers` and `Load` in
    `diptych.diagnosis`. `images` and `texts` replace the pictures and texts of `probes`. Raises
    ConfigError where nothing was published that the first could be compared with, and for a load
    that refuses its own inputs.

    >>> from dataclasses import replace
    >>> from diptych import Encoder, diagnose, models, pretrained
    >>> from diptych.inputs import Preprocess
    >>> model = models.build(pretrained.get("tiny"))
    >>> squash = Preprocess(replace(model.config.preprocess, resize="squash"), 48)
    >>> found = diagnose(Encoder(model), Encoder(model, preprocess=squash))
    >>> found.first.part, found.first.a, found.first.b
    ('resize', 'shortest', 'squash')
    """
    first = Load.of(a) if isinstance(a, Encoder) else a
    second = expected(first) if b is None else Load.of(b) if isinstance(b, Encoder) else b
    shown, said = list(images) or pictures(), list(texts or TEXTS)
    one, other = Side(first, shown, said), Side(second, shown, said)
    found = [*differences(one, other)]
    same_width = one.vectors.images.shape == other.vectors.images.shape
    whole = lowest(one.vectors, other.vectors) if same_width else None
    if whole and not found and 1 - min(whole) > max(one.enough, other.enough):
        found.append(Difference(part="code", a=first.name, b=second.name, cosines=whole))
    remarks = dict.fromkeys((*one.remarks(), *other.remarks()))
    return Diagnosis(
        a=first.name, b=second.name, differences=tuple(found), cosines=whole, remarks=tuple(remarks)
    )
