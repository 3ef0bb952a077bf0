"""open_clip_train's log: lines with the time, on stderr and in a file."""

import logging
import platform

_TIME = "%Y-%m-%d,%H:%M:%S"


def setup_logging(log_file: str | None, level: int, include_host: bool = False) -> None:
    """Send records of `level` and above, of all loggers that there are, to stderr and to the end of
    a file; `include_host`: with the machine's name."""
    host = f" {platform.node()} |" if include_host else ""
    form = logging.Formatter(f"%(asctime)s |{host} %(levelname)s | %(message)s", _TIME)
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if log_file:
        handlers.append(logging.FileHandler(log_file))
    logging.root.setLevel(level)
    for name in logging.root.manager.loggerDict:
        logging.getLogger(name).setLevel(level)
    for handler in handlers:
        handler.setFormatter(form)
        logging.root.addHandler(handler)
