"""A search app in the browser: a page and a JSON API over one index, on this machine."""

from diptych.app.build import build
from diptych.app.guard import Door
from diptych.app.server import App, listen

__all__ = ["App", "Door", "build", "listen"]
