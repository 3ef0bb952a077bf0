"""open_clip_train's files, here or wherever fsspec has a protocol for. Nothing is copied to a
remote place: the functions that do are there for programs that import them, and refuse a call.

https://github.com/mlfoundations/open_clip, src/open_clip_train/file_utils.py
"""

from typing import IO, Any, NoReturn

import fsspec
import torch

from diptych.errors import CheckpointError, ConfigError, first_line


def pt_save(pt_obj: Any, file_path: str) -> None:
    """Write a checkpoint of torch's. Raises OSError."""
    with _open(file_path, "wb") as file:
        torch.save(pt_obj, file)


def pt_load(file_path: str, map_location: Any = None) -> Any:
    """What a checkpoint of torch's holds, of tensors, numbers, texts and containers alone. Raises
    CheckpointError for a file that holds anything else, and OSError.

    >>> import tempfile
    >>> from diptych.compat.open_clip_train.file_utils import pt_load, pt_save
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pt_save({"epoch": 3}, f"{folder}/epoch_3.pt")
    ...     pt_load(f"{folder}/epoch_3.pt")
    {'epoch': 3}
    """
    with _open(file_path, "rb") as file:
        try:
            return torch.load(file, map_location, weights_only=True)
        except OSError:
            raise
        except Exception as error:  # torch and pickle raise whatever the bytes lead to
            raise CheckpointError(f"{file_path} can't be read: {first_line(error)}") from error


def check_exists(file_path: str) -> bool:
    """Whether there is such a file."""
    filesystem, path = fsspec.url_to_fs(file_path)
    return bool(filesystem.exists(path))


def remote_sync(local_dir: str, remote_dir: str, protocol: str) -> NoReturn:
    """Raises ConfigError: mount the remote place, and write there."""
    raise ConfigError(f"nothing is copied to {remote_dir}: mount it, and write there (--logs)")


def start_sync_process(
    sync_every: float, local_dir: str, remote_dir: str, protocol: str
) -> NoReturn:
    """Raises ConfigError as `remote_sync`."""
    remote_sync(local_dir, remote_dir, protocol)


def _open(file_path: str, mode: str) -> IO[bytes]:
    filesystem, path = fsspec.url_to_fs(file_path)
    return filesystem.open(path, mode)
