"""Time and memory until a program can be used."""

from collections.abc import Iterator

from benchmarks.compare import Row, measured_apart

IMPORT = "import time; s = time.perf_counter(); {what}; print(time.perf_counter() - s)"
MEMORY = "import resource; {what}; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
OURS = "import diptych; diptych.load; diptych.fit"
THEIRS = "import open_clip"
BUILD_OURS = "from diptych import models, pretrained; models.build(pretrained.get('vit-b-32'))"
BUILD_THEIRS = "import open_clip; open_clip.create_model('ViT-B-32')"


def rows() -> Iterator[Row]:
    for name, unit, template, ours, theirs in (
        ("import", "s", IMPORT, OURS, THEIRS),
        ("import and build ViT-B/32", "s", IMPORT, BUILD_OURS, BUILD_THEIRS),
        ("memory of that", "MB", MEMORY, BUILD_OURS, BUILD_THEIRS),
    ):
        mine, other = measured_apart(template.format(what=ours), template.format(what=theirs))
        yield Row(name=name, unit=unit, ours=mine, theirs=other)
