"""diptych models 'vit*'"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg

from diptych.cli.parse import parse
from diptych.cli.show import show
from diptych.errors import UnknownNameError


@dataclass(frozen=True, kw_only=True)
class Models:
    """Names of models, their sizes, where weights are, and what was claimed for them.

    diptych models 'vit-b*'"""

    pattern: Annotated[Positional[str], arg(metavar="PATTERN")] = "*"
    """A shell pattern."""


def run(arguments: Sequence[str]) -> None:
    """Parse and do it."""
    options = parse(Models, "models", arguments)

    from rich.table import Table

    from diptych import zoo

    names = zoo.names(options.pattern)
    if not names:
        raise UnknownNameError("model", options.pattern, zoo.names())
    table = Table("name", "size", "parameters", "GFLOPs", "weights", "claimed", box=None)
    for name in names:
        entry = zoo.entry(name)
        parameters, flops = _measure(name)
        weights = [f"hf-hub:{found.repo}" for found in entry.weights] or ["—"]
        claims = {f"{claim.metric} {claim.value:g}" for found in entry.weights for claim in found.claims}
        table.add_row(
            name,
            str(entry.config.image.image_size),
            f"{parameters / 1e6:.1f} M",
            f"{flops / 1e9:.2f}",
            "\n".join(weights),
            "\n".join(sorted(claims)) or "—",
        )
    show(table)


def _measure(name: str) -> tuple[int, int]:
    """Parameters, and operations for one picture and one full caption."""
    from diptych import models, zoo

    model = models.build(zoo.get(name), device="meta")
    return sum(p.numel() for p in model.parameters()), model.image.flops() + model.text.flops()
