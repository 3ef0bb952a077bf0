"""Which of open_clip's classes a model of ours is."""

from diptych.compat.coca_model import CoCa
from diptych.compat.faces.face import OpenClipModel
from diptych.compat.faces.names import table_of, text_prefix
from diptych.compat.mammut_model import MaMMUT
from diptych.compat.model import CLIP, CustomTextCLIP
from diptych.config.two_pass import TwoPassDecoderConfig
from diptych.models import Clip


def wrap(clip: Clip, output_dict: bool = False, custom_text: bool | None = None) -> OpenClipModel:
    """The model with open_clip's face: as its `CoCa` or `MaMMUT` where it writes captions, else as
    its `CustomTextCLIP` or, where `custom_text` is False, its `CLIP`; None: as open_clip's own
    configuration of such a model has it.

    >>> from diptych import models, pretrained
    >>> from diptych.compat.faces.wrapping import wrap
    >>> type(wrap(models.build(pretrained.get("tiny")))).__name__
    'CLIP'
    """
    if clip.config.decoder is not None:
        one = isinstance(clip.config.decoder, TwoPassDecoderConfig)
        return (MaMMUT if one else CoCa).of(clip, output_dict)
    custom = custom_text
    if custom is None:
        custom = bool(text_prefix(table_of(clip.config).rules))
    return (CustomTextCLIP if custom else CLIP).of(clip, output_dict, custom)
