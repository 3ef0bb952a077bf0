"""diptych models 'eva*'"""

import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from tyro.conf import Positional, arg

from diptych import pretrained
from diptych.cli.models_table import Key, Row, at_most, chosen, figures, print_table, rows
from diptych.cli.parse import parse
from diptych.cli.show import say
from diptych.config import ClipConfig
from diptych.config.ranges import Factor
from diptych.config.serialize import to_dict
from diptych.pretrained import Claim, Entry, Weights

if TYPE_CHECKING:
    from torch import nn

_WIDTH = 100
_INDENT = 14
_BUDGETS = (128, 256, 576, 784, 1024)
"""Patches of a picture for which SigLIP 2's NaFlex was trained (arXiv:2502.14786, §2.4.2)."""
_TAGS = 3
"""Of a model in a list."""


@dataclass(frozen=True, kw_only=True)
class Models:
    """Names of models, their sizes, where weights are, and what was claimed for them, by whom.

    diptych models 'vit-b*'

    Of one model, by any name that it or a file of it ever had, everything that is known:

    diptych models EVA02_CLIP_L_336_psz14_s6B.pt

    Which weights are good, small and free:

    diptych models --sort imagenet --under 1B --licence 'MIT*'
    """

    pattern: Annotated[Positional[str], arg(metavar="PATTERN")] = "*"
    """A shell pattern, or any name of one model."""
    sort: Key = ""
    """One line for each published file instead, the best first by this figure, or the smallest."""
    under: str = ""
    """Of these lines, those of models with at most so many parameters: 150M, 1B."""
    gflops: Factor = 0.0
    """Of these lines, those of models with at most so many GFLOPs, for a picture and a text; 0:
    any."""
    licence: str = ""
    """Of these lines, those whose licence matches a shell pattern: 'MIT*'."""
    json: bool = False
    """Everything about each, for other programs."""


class _Size(NamedTuple):
    parameters: int
    flops: int
    """For one picture, one caption of full length, or both; a multiply-add counts two."""


def run(arguments: Sequence[str]) -> None:
    """Parse and do it."""
    options = parse(Models, "models", arguments)

    entries = [
        pretrained.entry(name) for name in pretrained.names(options.pattern) or [options.pattern]
    ]
    if options.sort or options.under or options.gflops or options.licence:
        _compare(entries, options)
        return
    if options.json:
        print(json.dumps([_record(entry) for entry in entries], indent=2))
        return
    width = max(len(entry.name) for entry in entries)
    parts = len("image, text, decoder") if any(map(_writes, entries)) else len("image, text")
    head = f"{'name':<{width}}  size  {'towers':<{parts}}"
    say(f"{head}  parameters      GFLOPs  licence of the weights")
    for entry in entries:
        sizes = _sizes(entry)
        image = entry.config.image if isinstance(entry.config, ClipConfig) else entry.config
        towers = ", ".join(name for name in sizes if name != "all")
        licence = ", ".join(dict.fromkeys(file.licence for file in entry.weights)) or "—"
        row = f"{entry.name:<{width}}  {image.image_size:>4}  {towers:<{parts}}"
        say(f"{row}  {_count(sizes['all']):>10}  {_gflops(sizes['all']):>10}  {licence}")
        for label, texts in _card(entry, sizes) if len(entries) == 1 else _summary(entry):
            _print(label, texts)


def _writes(entry: Entry) -> bool:
    return isinstance(entry.config, ClipConfig) and entry.config.decoder is not None


def _compare(entries: list[Entry], options: Models) -> None:
    """The lines of `--sort`."""
    found: list[Row] = []
    at_most(options.under)  # before minutes are spent
    for entry in entries:
        if pretrained.published(entry):
            found += rows(entry, *_sizes(entry)["all"])
    kept = chosen(found, options.sort, options.under, options.gflops, options.licence)
    if options.json:
        print(json.dumps([row._asdict() for row in kept], indent=2))
    elif kept:
        print_table(kept)
    else:
        say("no published weights of these models are within these bounds")


def _record(entry: Entry) -> dict[str, Any]:
    tagged = {name: file for name, file in pretrained.published(entry) if file not in entry.weights}
    return to_dict(entry) | {
        "tagged": {name: to_dict(file) for name, file in tagged.items()},
        "sizes": {name: size._asdict() for name, size in _sizes(entry).items()},
    }


def _sizes(entry: Entry) -> dict[str, _Size]:
    """Of `all`, and of each tower by its name."""
    if recorded := pretrained.sizes(entry.name):
        return {name: _Size(*count) for name, count in recorded.items()}
    from diptych import models

    built: dict[str, Any]
    if isinstance(entry.config, ClipConfig):
        whole = models.build(entry.config, device="meta")
        built = {"image": whole.image, "text": whole.text}
        if whole.decoder is not None:
            built["decoder"] = whole.decoder
    else:
        whole = models.build_tower(entry.config, None, device="meta")
        built = {"image": whole}
    sizes = {name: _Size(_parameters(part), part.flops()) for name, part in built.items()}
    return {"all": _Size(_parameters(whole), sum(size.flops for size in sizes.values())), **sizes}


def _parameters(module: "nn.Module") -> int:
    return sum(p.numel() for p in module.parameters())


def _count(size: _Size) -> str:
    """`428.08 M`, `18.33 B`."""
    return (
        f"{size.parameters / 1e9:.2f} B"
        if size.parameters >= 10**9
        else f"{size.parameters / 1e6:.2f} M"
    )


def _gflops(size: _Size) -> str:
    """`2,311.40`."""
    return f"{size.flops / 1e9:,.2f}"


def _summary(entry: Entry) -> Iterator[tuple[str, list[str]]]:
    """Where weights are, and what was claimed."""
    yield "weights", [_address(file) for file in entry.weights]
    yield "claimed", _claims(entry)
    yield "by tag", _by_tag(entry, most=_TAGS)


def _by_tag(entry: Entry, most: int | None = None) -> list[str]:
    """Further weights, the best on ImageNet first."""
    tagged = [pair for pair in pretrained.published(entry) if pair[1] not in entry.weights]
    # Claims of one list stand in one order, ImageNet's first.
    tagged.sort(key=lambda pair: -pair[1].claims[0].value if pair[1].claims else 0.0)
    lines = [f"{name}: {figures(file) or 'no figures are known'}" for name, file in tagged[:most]]
    more = len(tagged) - len(lines)
    return [*lines, f"… and {more} more: diptych models {entry.name}"] if more else lines


def _card(entry: Entry, sizes: dict[str, _Size]) -> Iterator[tuple[str, list[str]]]:
    """Everything."""
    yield "also called", [", ".join(entry.aliases)]
    yield "note", [entry.note]
    for file in entry.weights:
        said = (
            file.format,
            file.dtype,
            file.size,
            file.licence,
            file.sha256 and f"sha256 {file.sha256}",
        )
        own = "" if file.training == entry.training else "; ".join(file.training.says)
        yield "weights", [_address(file), ", ".join(filter(None, said)), file.note, own]
    yield "claimed", _claims(entry)
    yield "by tag", _by_tag(entry)
    yield "trained", ["; ".join(entry.training.says)]
    yield (
        "sizes",
        [
            f"{name}: {_count(size)}, {_gflops(size)} GFLOPs"
            for name, size in sizes.items()
            if name != "all"
        ],
    )
    yield "by patches", _budgets(entry)
    yield from _settings("model" if isinstance(entry.config, ClipConfig) else "image", entry.config)


def _budgets(entry: Entry) -> list[str]:
    """Of a model for pictures of their own aspect, what a picture of so many patches costs."""
    config = entry.config
    if not isinstance(config, ClipConfig) or not config.image.native:
        return []
    from diptych import models

    tower = models.build_tower(config.image, config.embed_dim, "meta")
    costs = [f"{n:,}: {tower.flops_for(n) / 1e9:,.2f} GFLOPs" for n in _BUDGETS]
    return [f"of a picture of {', '.join(costs)} (`diptych embed --patches`)"]


def _address(file: Weights) -> str:
    """What `diptych.load` takes, or where a browser gets the file."""
    return file.link or f"hf-hub:{file.repo if file.repo in file.names else file.place}"


def _claims(entry: Entry) -> list[str]:
    """One line for each source; where files differ in what one says of them, for each file."""
    found: dict[tuple[str, str], list[Claim]] = {}
    for file, claims in [("", entry.claims), *((_address(f), f.claims) for f in entry.weights)]:
        for claim in claims:
            found.setdefault((claim.source, file), []).append(claim)
    lines: dict[str, None] = {}
    for (source, file), claims in found.items():
        others = (told for (other, _), told in found.items() if other == source)
        whose = f"{file}: " if file and any(told != claims for told in others) else ""
        said = ", ".join(f"{claim.metric} {claim.value}" for claim in claims)
        lines[f"{whose}{said} ({source})"] = None
    return list(lines)


def _settings(label: str, config: Any) -> Iterator[tuple[str, list[str]]]:
    """A configuration, then those that are nested in it."""
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    yield (
        label,
        [
            ", ".join(
                f"{name}={value!r}" for name, value in values.items() if not is_dataclass(value)
            )
        ],
    )
    for name, value in values.items():
        if is_dataclass(value):
            yield from _settings(name, value)


def _print(label: str, texts: Iterable[str]) -> None:
    """The texts that aren't empty, the first behind the label; long ones are broken between
    words."""
    for text in filter(None, texts):
        first = f"  {label}"
        for line in textwrap.wrap(
            text,
            _WIDTH,
            initial_indent=f"{first:<{_INDENT}} ",
            subsequent_indent=" " * (_INDENT + 1),
            break_long_words=False,
            break_on_hyphens=False,
        ):
            say(line)
        label = ""
