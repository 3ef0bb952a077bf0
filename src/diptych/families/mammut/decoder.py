"""What only the pass of captions of MaMMUT's decoder has (Kuo et al. 2023, arXiv:2303.16839), as
open_clip has it."""

from diptych.families.mammut.config import MammutDecoderConfig, MammutTextConfig
from diptych.models.two_pass import TwoPassDecoder
from diptych.nn import CrossBlock
from diptych.nn.cross import build_readers, cross_flops


class MammutDecoder(TwoPassDecoder[MammutDecoderConfig]):
    """Readers that stand behind blocks of the text tower, with perceptrons of their own.

    >>> import torch
    >>> from diptych import pretrained
    >>> from diptych.models import build
    >>> model = build(pretrained.get("tiny-mammut"))
    >>> read = model.read_pictures(torch.zeros(2, 3, 48, 48))
    >>> model.next_tokens(torch.tensor([[49406, 320], [49406, 518]]), read).shape
    torch.Size([2, 2, 49408])
    """

    text_kind = MammutTextConfig

    def __init__(self, config: MammutDecoderConfig):
        super().__init__(config, build_readers(config, len(config.reader_layers)))

    def init(self) -> None:
        """Fill every parameter, as open_clip does: readers by CLIP's table (`init_blocks`), for the
        text tower's number of blocks; the two matrices by `init_ends`."""
        residual = (2 * self.config.layers * self.width) ** -0.5
        for reader in self.readers:
            assert isinstance(reader, CrossBlock)
            reader.init(residual)
        self.init_ends()

    def reader_flops(self, length: int, tokens: int) -> int:
        """See `TwoPassDecoder.reader_flops`."""
        return cross_flops(length, tokens, self.config.width, self.config.mlp_width)
