"""open_clip_train's files, here or wherever fsspec has a protocol for. Nothing is copied to a
remote place: the functions that do are there for programs that import them, and refuse a call.

https://github.com/mlfoundations/open_clip, src/open_clip_train/file_utils.py
"""

import subprocess
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


def remote_checkpoints(path: str) -> list[str]:
    """The `.pt` files in a folder of S3, as AWS' command line lists it (`aws s3 ls`), which knows
    the user's keys; none where there is no such folder. Raises ConfigError where there is no such
    program, and where it fails: a run would begin anew beside the checkpoints that it didn't see.
    """
    try:
        said = subprocess.run(["aws", "s3", "ls", f"{path}/"], capture_output=True, check=False)
    except FileNotFoundError:
        raise ConfigError(
            f"{path} is remote, and `aws` isn't installed, which lists such folders: install it, "
            "or name a mounted folder"
        ) from None
    if said.returncode == 1:  # its answer for what isn't there
        return []
    if said.returncode:
        why = said.stderr.decode(errors="replace").strip()
        raise ConfigError(f"{path} couldn't be listed by `aws s3 ls`: {why}")
    names = (line.split()[-1] for line in said.stdout.decode().splitlines() if line.strip())
    return [f"{path}/{name}" for name in names if name.endswith(".pt")]


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
