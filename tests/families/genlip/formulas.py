"""GenLIP's forward pass from its formulas, a token at a time: nothing of it is the package's."""

import math

import torch
import torch.nn.functional as F


def angle(place, pair, sections, theta):
    """Of a pair of channels of a token at (time, row, column)."""
    axis = pair % 3
    if axis and pair >= 3 * sections[axis]:
        axis = 0
    return place[axis] * theta ** (-pair / sum(sections))


def turn(vector, place, sections, theta):
    half = len(vector) // 2
    turned = torch.empty_like(vector)
    for pair in range(half):
        a, b = vector[pair], vector[pair + half]
        cos, sin = (f(angle(place, pair, sections, theta)) for f in (math.cos, math.sin))
        turned[pair], turned[pair + half] = a * cos - b * sin, b * cos + a * sin
    return turned


def normed(x, weights, name, config):
    gain = weights[f"{name}.weight"]
    if config.norm == "rms":
        return F.rms_norm(x, gain.shape, gain, config.norm_eps)
    return F.layer_norm(x, gain.shape, gain, weights[f"{name}.bias"], config.norm_eps)


def linear(x, weights, name):
    return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def attended(x, weights, config, places, sees):
    """Of tokens [tokens, width]; `sees(i, j)`: whether token i sees token j."""
    width, heads, head = config.width, config.heads, config.width // config.heads
    asked = linear(x, weights, "self_attn.q_proj")
    keys, values = (linear(x, weights, f"self_attn.{name}_proj") for name in "kv")
    read = torch.zeros_like(x)
    for h in range(heads):
        part = slice(h * head, (h + 1) * head)
        q, k = [], []
        for i, place in enumerate(places):
            own = (asked[i, :width][part], keys[i, part])
            if config.qk_norm:
                names = ("self_attn.q_norm", "self_attn.k_norm")
                own = (normed(v, weights, n, config) for v, n in zip(own, names, strict=True))
            mine, key = (turn(v, place, config.rotary_sections, config.rotary_theta) for v in own)
            q.append(mine)
            k.append(key)
        for i in range(len(x)):
            seen = [j for j in range(len(x)) if sees(i, j)]
            scores = torch.stack([q[i] @ k[j] for j in seen]) / math.sqrt(head)
            read[i, part] = scores.softmax(0) @ values[seen][:, part]
    if config.gated_attention:
        read = read * torch.sigmoid(asked[:, width:])
    return linear(read, weights, "self_attn.out_proj")


def block(x, weights, config, places, sees):
    """One block over one picture, and its caption."""
    scale = [weights.get(f"layer_scale{i}.lambda1", 1.0) for i in (1, 2)]
    own = normed(x, weights, "layer_norm1", config)
    x = x + scale[0] * attended(own, weights, config, places, sees)
    own = normed(x, weights, "layer_norm2", config)
    act = {"silu": F.silu, "gelu": F.gelu, "relu": F.relu}[config.activation]
    hidden = linear(own, weights, "mlp.fc1")
    gate = linear(own, weights, "mlp.gate_fc") if config.gated_mlp else None
    hidden = act(hidden) if gate is None else act(gate) * hidden
    return x + scale[1] * linear(hidden, weights, "mlp.fc2")


def part(state, prefix):
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}


def picture(pixels, state, config):
    """[3, height, width], of whole patches -> tokens behind the norm, and the vector."""
    size = config.patch_size
    rows, columns = (side // size for side in pixels.shape[1:])
    x, places = [], []
    for row in range(rows):
        for column in range(columns):
            cut = pixels[:, row * size : (row + 1) * size, column * size : (column + 1) * size]
            if "norm_input.weight" in state:
                flat = cut.permute(1, 2, 0).flatten()
                gain, bias = state["norm_input.weight"], state["norm_input.bias"]
                flat = F.layer_norm(flat, gain.shape, gain, bias)
                cut = flat.reshape(size, size, 3).permute(2, 0, 1)
            bias = state.get("patch.bias", 0.0)
            x.append((state["patch.weight"] * cut).sum((1, 2, 3)) + bias)
            places.append((0, row, column))
    x = torch.stack(x)
    if config.pre_norm:
        x = normed(x, state, "norm_pre", config)
    for i in range(config.layers):
        x = block(x, part(state, f"blocks.{i}."), config, places, lambda i, j: True)
    tokens = normed(x, state, "norm_post", config)
    return tokens, tokens.mean(0)
