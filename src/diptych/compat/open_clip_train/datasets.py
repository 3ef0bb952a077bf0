"""open_clip_train's indexed data sets: a table's pairs, and one picture again and again."""

from argparse import Namespace
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from PIL import Image
from torch.utils.data import Dataset

from diptych.compat.open_clip_train.batches import Pairs, Transform
from diptych.compat.open_clip_train.pairs import ImageText
from diptych.compat.open_clip_train.texts import columns_of
from diptych.config import DataConfig
from diptych.data import open_source
from diptych.data.ids import KEY
from diptych.errors import ConfigError


class CsvDataset(Pairs):
    """(picture, ids), also by `image` and `text`, of each row of a table with columns of paths and
    captions. A picture that can't be read is a DataError; a batch that a `DataLoader` asks for goes
    on without it.

    >>> import csv, tempfile
    >>> from PIL import Image
    >>> from diptych.compat.open_clip_train.data import CsvDataset
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (8, 8)).save(f"{folder}/a.png")
    ...     with open(f"{folder}/pairs.csv", "w") as file:
    ...         csv.writer(file, delimiter="\\t").writerows([["path", "text"], ["a.png", "a cat"]])
    ...     pairs = CsvDataset(f"{folder}/pairs.csv", lambda x: x.size, "path", "text")
    ...     len(pairs), pairs[0]
    (1, {'image': (8, 8), 'text': 'a cat'})
    """

    def __init__(
        self,
        input_filename: str,
        transforms: Transform,
        img_key: str,
        caption_key: str,
        sep: str = "\t",
        tokenizer: Any = None,
        variable_text: bool = False,
    ):
        """`tokenizer`: of a list of one text; None: the text itself. `variable_text`: ids that
        aren't padded. Raises DataError for a table that can't be read or lacks a column."""
        config = DataConfig(
            path=str(input_filename),
            separator=sep.replace("\t", "\\t"),
            image_key=img_key,
            caption_key=caption_key,
        )
        layout = Namespace(variable_text=variable_text)
        text, _ = columns_of(layout, tokenizer, None, of_a_list=True)
        super().__init__(open_source(config), transforms, text, replaced=False)
        self.transforms, self.tokenize = transforms, tokenizer

    @cached_property
    def images(self) -> Any:
        """The paths, as the table has them: a Series, as on open_clip's main branch. Raises
        ConfigError where pandas isn't installed."""
        return _series([self.source.id_of(row, KEY) for row in range(len(self))])

    @cached_property
    def captions(self) -> Any:
        """The texts, as `images`."""
        return _series([self.source[row].captions[0] for row in range(len(self))])


class SyntheticDataset(Dataset[ImageText]):
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
        variable_text: bool = False,
    ):
        """`image_size`: (width, height), before the transform; `tokenizer`: of a list of one text;
        `variable_text`: ids that aren't padded."""
        self.image = Image.new("RGB", (image_size[0], image_size[-1]))
        self.caption = caption
        self.transform, self.tokenizer = transform, tokenizer
        self.dataset_size, self._layout = dataset_size, {"pad": False} if variable_text else {}

    def __len__(self) -> int:
        return self.dataset_size

    def __getitem__(self, index: int) -> ImageText:
        image = self.image if self.transform is None else self.transform(self.image)
        if self.tokenizer is None:
            return ImageText(image=image, text=self.caption)
        ids = self.tokenizer([self.caption], **self._layout)[0]
        return ImageText(image=image, text=ids)


def _series(values: list[str]) -> Any:
    try:
        import pandas as pd
    except ImportError as error:
        raise ConfigError(
            "open_clip's tables give their columns as pandas has them: pip install pandas"
        ) from error
    return pd.Series(values)
