"""Parameter groups: which weights decay, and which have a lower learning rate (layer-wise
learning-rate decay)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

# The common bases of the batch norms and of the convolutions have no public names.
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.conv import _ConvNd  # pyright: ignore[reportPrivateUsage]

from diptych.nn import Attention


@dataclass(frozen=True, kw_only=True)
class Group:
    """A parameter group: parameters that are treated alike, by their names in the model."""

    title: str
    names: tuple[str, ...]
    parameters: tuple[nn.Parameter, ...]
    weight_decay: float
    scale: float = 1.0
    """Factor on the learning rate."""


def decay_groups(
    module: nn.Module,
    no_decay: frozenset[str],
    weight_decay: float,
    scales: Mapping[str, float] | None = None,
    vectors: bool = False,
    *,
    title: str = "",
    prefix: str = "",
    besides: Sequence[nn.Module] = (),
) -> tuple[Group, ...]:
    """Two groups of the parameters that are trained: matrices decay (and `vectors`, if asked);
    vectors and the names in `no_decay` don't. With `scales` of the learning rate by name (1 where a
    name lacks), two groups for each.

    Frozen parameters (`requires_grad` false) are in neither; nor are those of the modules
    `besides`. An empty group is left out. `title` stands before the groups' titles, and `prefix`,
    the module's place in the model, before the names.

    >>> from torch import nn
    >>> from diptych.optim import decay_groups
    >>> [(group.title, group.names) for group in decay_groups(nn.Linear(2, 3), frozenset(), 0.2)]
    [('decay', ('weight',)), ('no decay', ('bias',))]
    """
    apart = {id(p) for other in besides for p in other.parameters()}
    trained = {
        name: p for name, p in module.named_parameters() if p.requires_grad and id(p) not in apart
    }
    # Vectors are biases and the gains of norms: few numbers, for which zero is no natural value, so
    # that decay would only work against the loss.
    decayed = {
        name for name, p in trained.items() if (vectors or p.ndim > 1) and name not in no_decay
    }
    scale_of = {name: (scales or {}).get(name, 1.0) for name in trained}
    groups = list[Group]()
    for kind, decay in (("decay", weight_decay), ("no decay", 0.0)):
        for scale in sorted(set(scale_of.values()), reverse=True):
            chosen = [
                n for n in trained if (n in decayed) == (kind == "decay") and scale_of[n] == scale
            ]
            group = Group(
                title=f"{title} {kind}".strip(),
                names=tuple(prefix + name for name in chosen),
                parameters=tuple(trained[name] for name in chosen),
                weight_decay=decay,
                scale=scale,
            )
            groups += [group] if chosen else []
    return tuple(groups)


def norms_and_biases(module: nn.Module) -> frozenset[str]:
    """What doesn't decay where `tables` do: norms, biases of layers (but of joint queries, keys and
    values), and the logits' scales and bias.

    >>> from diptych.nn import Block
    >>> from diptych.optim import norms_and_biases
    >>> block = Block(width=8, heads=2, mlp_width=32, activation="gelu", eps=1e-5)
    >>> decayed = {name for name, _ in block.named_parameters()} - norms_and_biases(block)
    >>> sorted(name for name in decayed if name.startswith("attention"))
    ['attention.out.weight', 'attention.qkv.bias', 'attention.qkv.weight']
    """
    # Biases of joint queries, keys and values count as tables, as in the published implementation,
    # which keeps them as parameters of their own and not as a layer's bias.
    joint = {id(m.qkv) for m in module.modules() if isinstance(m, Attention)}
    found = set[str]()
    for place, part in module.named_modules():
        for name, _ in part.named_parameters(recurse=False):
            is_norm = isinstance(part, nn.LayerNorm | nn.RMSNorm | _BatchNorm)
            is_bias = (
                isinstance(part, nn.Linear | _ConvNd) and name == "bias" and id(part) not in joint
            )
            if is_norm or is_bias or name in ("logit_scale", "logit_bias"):
                found.add(f"{place}.{name}".lstrip("."))
    return frozenset(found)


def layer_lr_scales(layers: Mapping[str, int], decay: float) -> dict[str, float]:
    """Layer-wise learning-rate decay: name -> decay ** (last layer - the parameter's layer),
    factors on the learning rate (Clark et al. 2020, arXiv:2003.10555; BEiT, arXiv:2106.08254).
    `layers` are the depths of a tower's parameters by name.

    Why: early layers of a pretrained tower hold general features that fine-tuning should keep.

    >>> from diptych.optim import layer_lr_scales
    >>> layer_lr_scales({"stem": 0, "blocks.0": 1, "head": 2}, 0.5)
    {'stem': 0.25, 'blocks.0': 0.5, 'head': 1.0}
    """
    last = max(layers.values())
    return {name: decay ** (last - layer) for name, layer in layers.items()}


def group_table(groups: tuple[Group, ...], lr: float) -> list[str]:
    """The groups as aligned lines: title, tensors, weights, peak learning rate where `lr` is the
    configured one, weight decay. Groups that differ in nothing but the rate, as layers do, are one
    line.

    >>> from torch import nn
    >>> from diptych.optim import decay_groups, group_table
    >>> groups = decay_groups(nn.Linear(2, 3), frozenset(), 0.2)
    >>> print("\\n".join(group_table(groups, lr=5e-4)))
    group       tensors         weights  peak learning rate     decay
    decay             1               6  0.0005                   0.2
    no decay          1               3  0.0005                     0
    """
    alike: dict[tuple[str, float], list[Group]] = {}
    for group in groups:
        alike.setdefault((group.title, group.weight_decay), []).append(group)
    width = max(len("no decay"), *(len(title) for title, _ in alike))
    lines = [
        f"{'group':<{width}}  {'tensors':>8}  {'weights':>14}  {'peak learning rate':<22} "
        f"{'decay':>6}"
    ]
    for (title, decay), members in alike.items():
        rates = sorted(lr * group.scale for group in members)
        span = f"{rates[0]:.3g}" + (f" to {rates[-1]:.3g}" if len(rates) > 1 else "")
        tensors = sum(len(group.names) for group in members)
        weights = sum(p.numel() for group in members for p in group.parameters)
        lines.append(f"{title:<{width}}  {tensors:>8}  {weights:>14,}  {span:<22} {decay:>6g}")
    return lines


def group_records(groups: tuple[Group, ...], lr: float) -> list[dict[str, Any]]:
    """The groups as plain JSON, with the names of their parameters; `lr` as for `group_table`.

    >>> from torch import nn
    >>> from diptych.optim import decay_groups, group_records
    >>> group_records(decay_groups(nn.Linear(2, 3), frozenset(), 0.2), lr=0.1)[1]["names"]
    ['bias']
    """
    return [
        {
            "title": group.title,
            "tensors": len(group.names),
            "weights": sum(p.numel() for p in group.parameters),
            "lr": lr * group.scale,
            "lr_scale": group.scale,
            "weight_decay": group.weight_decay,
            "names": list(group.names),
        }
        for group in groups
    ]
