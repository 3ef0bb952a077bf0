"""The table of models by datasets in the languages that people write in: markdown, CSV, LaTeX."""

import io
from collections.abc import Callable
from pathlib import Path

from diptych.cells import csv_rows
from diptych.durable import write_file
from diptych.errors import ConfigError
from diptych.reports.averages import BETTER, NOTE
from diptych.reports.board import Board, Column, Figure


def write_table(out: str | Path, table: Board) -> Path:
    """The table in the language that the file's ending says: .md, .csv or .tex. Raises ConfigError
    for another."""
    out = Path(out)
    writers = {".md": to_markdown, ".csv": to_csv, ".tex": to_latex}
    if out.suffix not in writers:
        raise ConfigError(f"--table {out}: a table is written as {', '.join(writers)}")
    text = writers[out.suffix](table) + "\n"
    write_file(out, lambda path: path.write_bytes(text.encode("utf-8", "backslashreplace")))
    return out


def to_markdown(table: Board) -> str:
    """Percentages; ± is half of the 95 % interval, whose ends stand in square brackets where ±
    would leave the scale; a published figure stands in brackets, with ≠ where it differs."""
    head, *rows = texts(table)
    rules = ["---", "---", *("---:" for _ in head[2:])]
    lines = [_markdown_row(row) for row in (head, rules, *rows)]
    return "\n".join(lines) + _footnote(table)


def _markdown_row(row: list[str]) -> str:
    return f"| {' | '.join(text.replace('|', chr(92) + '|') for text in row)} |"


def to_latex(table: Board) -> str:
    """A booktabs table; the best of each column is bold."""
    best = dict.fromkeys(table.columns, 0.0)
    for (_, column), cell in table.cells.items():
        best[column] = max(best[column], cell.value)

    def text(cell: Figure, column: Column) -> str:
        figure = _text(cell, r"\,$\pm$\,", r"$\neq$", "--")
        return (
            rf"\textbf{{{figure}}}"
            if cell.value == best[column] and len(table.lines) > 1
            else figure
        )

    head, *rows = texts(table, text)
    lines = [
        rf"\begin{{tabular}}{{ll{'r' * (len(head) - 2)}}}",
        r"\toprule",
        " & ".join(map(_escape, head)) + r" \\",
        r"\midrule",
        *(" & ".join([*map(_escape, row[:2]), *row[2:]]) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines)


def to_csv(table: Board) -> str:
    """A line a figure, unrounded, so that any tool can turn it as it likes; last what the result
    calls its model, of which `model` is the short form."""
    out = io.StringIO()
    writer = csv_rows(out)
    figures = ("task", "metric", "value", "low", "high", "published", "source", "differs")
    writer.writerow(["model", "how", *figures, "recorded_as"])
    recorded = {label: name for name, label in sorted(table.labels.models.items(), reverse=True)}
    for line in table.lines:
        for column in table.columns:
            if cell := table.cells.get((line, column)):
                interval, printed = cell.interval or ("", ""), cell.published or ("", "")
                writer.writerow(
                    [
                        *line,
                        column.task,
                        column.metric,
                        cell.value,
                        *interval,
                        *printed,
                        int(cell.differs),
                        recorded[line.model],
                    ]
                )
    return out.getvalue().rstrip("\n")


def texts(table: Board, text: Callable[[Figure, Column], str] | None = None) -> list[list[str]]:
    """The head and the rows, cells by `text`, or as `to_markdown` has them. Means of complete
    groups stand last, or else the mean over what all lines have."""
    text = text or (lambda cell, _: _text(cell, "±", "≠"))
    tasks = [column.task for column in table.columns]
    heads = [
        c.task if tasks.count(c.task) == 1 else f"{c.task} {short_metric(c.metric)}"
        for c in table.columns
    ]
    groups = {line: table.group_means(line) for line in table.lines}
    names = table.group_names()
    averaged = not names and any(table.mean(line) is not None for line in table.lines)
    rows = [["model", "resize", *heads, *names, *([table.mean_of] if averaged else [])]]
    for line in table.lines:
        cells = [table.cells.get((line, column)) for column in table.columns]
        figures = [
            text(cell, column) if cell else "—" for cell, column in zip(cells, table.columns)
        ]
        means = [
            _text(groups[line][name], "±", "≠") if name in groups[line] else "—" for name in names
        ]
        shared = [f"{100 * (table.mean(line) or 0):.1f}"] if averaged else []
        rows.append([*line, *figures, *means, *shared])
    return rows


def _text(cell: Figure, plus_minus: str, unequal: str, to: str = "–") -> str:
    """Such as `75.5±0.4 (75.3)`; `100.0 [95.8–100.0]` where ± would leave the scale; `75.0*` of
    another number of samples than was published."""
    figure = f"{100 * cell.value:.1f}{'*' if cell.partial else ''}"
    if cell.interval:
        low, high = cell.interval
        half = (high - low) / 2
        if half <= cell.value <= 1 - half:
            figure += f"{plus_minus}{100 * half:.1f}"
        else:
            figure += f" [{100 * low:.1f}{to}{100 * high:.1f}]"
    if cell.published:
        figure += f" ({unequal if cell.differs else ''}{100 * cell.published.value:.1f})"
    return figure


def _footnote(table: Board) -> str:
    return f"\n\n{NOTE}" if any(line.how.startswith(BETTER) for line in table.lines) else ""


_LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"†": r"$\dagger$"}
)


def _escape(text: str) -> str:
    return text.translate(_LATEX)


def short_metric(metric: str) -> str:
    """`image_to_text_r5` as `i→t R@5`."""
    return (
        metric.replace("image_to_text_r", "i→t R@")
        .replace("text_to_image_r", "t→i R@")
        .replace("mean_recall", "MR")
        .replace("_", " ")
    )
