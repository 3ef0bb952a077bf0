"""open_clip_train's indexed data sets: a table's pairs, and one picture again and again."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from PIL import Image
from torch.utils.data import Dataset

from diptych.batch import Sample
from diptych.compat.open_clip_train.batches import Pairs, Transform
from diptych.config import DataConfig
from diptych.data import open_source


class CsvDataset(Pairs):
    """(picture, ids) of each row of a table with columns of paths and captions. A picture that
    can't be read is a DataError; a batch that a `DataLoader` asks for goes on without it.

    >>> import csv, tempfile
    >>> from PIL import Image
    >>> from diptych.compat.open_clip_train.data import CsvDataset
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (8, 8)).save(f"{folder}/a.png")
    ...     with open(f"{folder}/pairs.csv", "w") as file:
    ...         csv.writer(file, delimiter="\\t").writerows([["path", "text"], ["a.png", "a cat"]])
    ...     pairs = CsvDataset(f"{folder}/pairs.csv", lambda x: x.size, "path", "text")
    ...     len(pairs), pairs[0]
    (1, ((8, 8), 'a cat'))
    """

    def __init__(
        self,
        input_filename: str,
        transforms: Transform,
        img_key: str,
        caption_key: str,
        sep: str = "\t",
        tokenizer: Any = None,
    ):
        """`tokenizer`: of a list of one text; None: the text itself. Raises DataError for a table
        that can't be read or lacks a column."""
        config = DataConfig(
            path=str(input_filename),
            separator=sep.replace("\t", "\\t"),
            image_key=img_key,
            caption_key=caption_key,
        )
        text = partial(listed_text, tokenizer)
        super().__init__(open_source(config), transforms, text, replaced=False)
        self.transforms, self.tokenize = transforms, tokenizer


class SyntheticDataset(Dataset[tuple[Any, Any]]):
    """The same black picture and caption, `dataset_size` times: to time a training.

    >>> from diptych.compat.open_clip_train.data import SyntheticDataset
    >>> SyntheticDataset(image_size=(4, 6), tokenizer=lambda texts: texts)[0][1]
    'Dummy caption'
    """

    def __init__(
        self,
        transform: Transform | None = None,
        image_size: Sequence[int] = (224, 224),
        caption: str = "Dummy caption",
        dataset_size: int = 100,
        tokenizer: Any = None,
    ):
        """`image_size`: (width, height), before the transform; `tokenizer`: of a text."""
        self.image = Image.new("RGB", (image_size[0], image_size[-1]))
        self.caption = caption
        self.transform, self.tokenizer = transform, tokenizer
        self.dataset_size = dataset_size

    def __len__(self) -> int:
        return self.dataset_size

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image = self.image if self.transform is None else self.transform(self.image)
        return image, self.caption if self.tokenizer is None else self.tokenizer([self.caption])[0]


def listed_text(tokenizer: Any, sample: Sample) -> Any:
    """The first caption's ids, as open_clip asks them of tables; without a tokenizer the text."""
    caption = sample.captions[0]
    return caption if tokenizer is None else tokenizer([caption])[0]
