"""The drawings of docs/: `python -m docs._make.pictures` writes them into docs/pictures/.

They are made of what the code does, so that none shows what isn't so: the order of samples is
`data.Order`'s, the tiles are `LogitTiles`'.
"""

from collections.abc import Callable
from pathlib import Path

from diptych.data import Order

FOLDER = Path(__file__).parents[1] / "pictures"
PHOTOGRAPHS = ("app", "app-duplicates", "app-phone", "heat-maps", "report")
"""Of `docs._make.screenshots`, which needs a trained model and a browser: NAME.webp each."""
_COLOURS = ("#4361ee", "#e07a1f", "#2a9d5c", "#b5179e")
"""Told apart in light and dark, and by who sees red and green alike."""
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #333 }
  .small { font-size: 11px } .middle { text-anchor: middle } .end { text-anchor: end }
  .line { stroke: #888; fill: none } .box { fill: #8882; stroke: #888 }
  @media (prefers-color-scheme: dark) { text { fill: #ddd } }
"""


class Drawing:
    """SVG, element by element; places and sizes are in pixels."""

    def __init__(self, width: int, height: int, title: str):
        self._head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img">\n<title>{title}</title>\n'
            f'<style>{_STYLE}</style>\n<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" '
            'markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0 L8 4 L0 8 z" '
            'fill="#888"/></marker></defs>\n'
        )
        self._parts = list[str]()

    def text(self, x: float, y: float, words: str, kind: str = "middle") -> None:
        """Words; their foot stands at y."""
        self._parts.append(f'<text x="{x:g}" y="{y:g}" class="{kind}">{words}</text>')

    def square(
        self, x: float, y: float, width: float, height: float, colour: str = "", share: float = 1
    ) -> None:
        """A rectangle, in a colour that is `share` opaque, or a box."""
        look = f'fill="{colour}" fill-opacity="{share:g}"' if colour else 'class="box" rx="6"'
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" {look}/>'
        )

    def box(self, x: float, y: float, width: float, *lines: str) -> None:
        """A box around lines of words."""
        height = 18 * len(lines) + 14
        self.square(x, y, width, height)
        for place, line in enumerate(lines):
            kind = "middle" if place == 0 else "middle small"
            self.text(x + width / 2, y + 21 + 18 * place, line, kind)

    def arrow(self, x: float, y: float, to_x: float, to_y: float) -> None:
        """From one place to another."""
        self._parts.append(
            f'<path class="line" marker-end="url(#a)" d="M{x:g} {y:g} L{to_x:g} {to_y:g}"/>'
        )

    def __str__(self) -> str:
        return self._head + "\n".join(self._parts) + "\n</svg>\n"


def towers() -> Drawing:
    """What a CLIP model is, and what its loss compares."""
    drawing = Drawing(740, 250, "Two towers, one space")
    for y, given, tower, colour in ((20, "pictures", "image", 0), (150, "captions", "text", 1)):
        drawing.box(10, y, 110, given, "a batch of pairs")
        drawing.box(180, y, 130, f"{tower} tower", "then a projection")
        drawing.arrow(120, y + 25, 176, y + 25)
        drawing.arrow(310, y + 25, 366, y + 25)
        for place in range(4):
            drawing.square(
                372 + 12 * place, y + 5, 9, 40, _COLOURS[colour], 0.4 + 0.2 * (place % 4)
            )
        drawing.text(394, y + 66, "unit vectors", "middle small")
        drawing.arrow(428, y + 25, 500, 110 if y < 100 else 140)
    for row in range(4):
        for column in range(4):
            share = 0.95 if row == column else 0.15
            drawing.square(510 + 26 * column, 72 + 26 * row, 24, 24, _COLOURS[2], share)
    drawing.text(561, 62, "scale x cosines", "middle small")
    drawing.arrow(618, 124, 650, 124)
    drawing.text(694, 120, "loss")
    drawing.text(694, 136, "on the diagonal", "middle small")
    return drawing


def tiles() -> Drawing:
    """How the loss is computed: a few rows at a time, each process its own."""
    pairs, processes, tile, side = 16, 4, 2, 15
    drawing = Drawing(620, 330, "The loss in tiles")
    drawing.text(190, 22, "texts of all processes")
    for row in range(pairs):
        owner = row * processes // pairs
        for column in range(pairs):
            in_tile = row % (pairs // processes) < tile
            share = 0.95 if row == column else 0.45 if in_tile else 0.12
            drawing.square(
                70 + side * column, 36 + side * row, side - 1, side - 1, _COLOURS[owner], share
            )
    for owner in range(processes):
        middle = 36 + side * pairs / processes * (owner + 0.5)
        drawing.text(62, middle + 4, f"GPU {owner}", "small end")
        drawing.text(330, middle - 2, f"rows of GPU {owner}'s own pictures", "small")
        drawing.text(
            330, middle + 14, f"{tile} of {pairs // processes} rows are there at a time", "small"
        )
    drawing.text(
        70, 300, "Full colour: pairs that belong together. Strong: what is in memory.", "small"
    )
    drawing.text(70, 318, "Memory is tile x batch, never batch x batch.", "small")
    return drawing


def order() -> Drawing:
    """Which sample stands where: two epochs of a source, over two workers and steps."""
    count, batch, cell = 24, 8, 24
    samples = Order(sizes=(count,), weights=(1.0,), batch_size=batch, seed=0)
    drawing = Drawing(660, 250, "The order of the data")
    drawing.text(90, 24, "step", "middle small")
    drawing.text(
        330, 24, "numbers of the samples, dark to light, as data.Order gives them", "middle small"
    )
    for step in range(1, 2 * count // batch + 1):
        y = 36 + (cell + 4) * (step - 1)
        drawing.text(90, y + 16, str(step))
        for place, (_, epoch, index) in enumerate(samples.batch(step - 1).tolist()):
            drawing.square(
                120 + (cell + 26) * place,
                y,
                cell + 22,
                cell,
                _COLOURS[epoch],
                1 - 0.8 * index / count,
            )
            drawing.text(120 + (cell + 26) * place + (cell + 22) / 2, y + 16, str(index))
        drawing.text(540, y + 16, f"epoch {int(samples.batch(step - 1)[0, 1]) + 1}", "small")
    drawing.text(
        330,
        222,
        "Each sample comes once an epoch. Every place is computed from the seed and its number.",
        "middle small",
    )
    return drawing


PICTURES: dict[str, Callable[[], Drawing]] = {"towers": towers, "tiles": tiles, "order": order}


def write(folder: Path = FOLDER) -> None:
    """All of them, NAME.svg each."""
    folder.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        (folder / f"{name}.svg").write_text(str(draw()))


if __name__ == "__main__":
    write()
