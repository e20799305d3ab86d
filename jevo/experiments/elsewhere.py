"""What a champion computes, as lines of NumPy for its card: for whoever has no jevo."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from jevo.runs import Saved

ACTIVATIONS = {
    "relu": "np.maximum(h, 0)",
    "sigmoid": "0.5 + 0.5 * np.tanh(h / 2)",
    "swish": "h * (0.5 + 0.5 * np.tanh(h / 2))",
    "elu": "np.where(h > 0, h, np.expm1(np.minimum(h, 0)))",
    "selu": "1.0507009873554805 * np.where(h > 0, h, 1.6732632423543772 * np.expm1(np.minimum(h, 0)))",
    "tanh": "np.tanh(h)",
    "linear": "h",
}
"""`jevo.networks.ACTIVATIONS` of an array `h`."""

CONVOLVE = """
def convolve(h, kernel, stride, same):
    if same:
        needed = [max((-(-n // stride) - 1) * stride + len(kernel) - n, 0) for n in h.shape[1:3]]
        h = np.pad(h, [(0, 0), *((n // 2, n - n // 2) for n in needed), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(h, kernel.shape[:2], (1, 2))[:, ::stride, ::stride]
    return np.einsum("nhwcij,ijco->nhwo", windows, kernel, optimize=True)


def pool(h):
    n, height, width, channels = h.shape
    h = h[:, : height // 2 * 2, : width // 2 * 2]
    return h.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))

"""


_PARAMS = (
    "# Your module computes the outputs of h. Flax Linen: module.apply({'params': params}, h).",
    "# Flax NNX: state = nnx.state(module, nnx.Param); nnx.replace_by_pure_dict(state, params);",
    "# nnx.update(module, state); module.eval(); module(h).",
)
_WITH_STATE = (
    "# Your module computes the outputs of h. Flax Linen:",
    "# module.apply({'params': params['params'], **params['state']}, h).",
    "# Flax NNX: params['params'] are its parameters, params['state'] its other variables; module.eval(); module(h).",
)


class Layer(NamedTuple):
    """A layer of a network: a dense one, or a convolution if it has a stride.

    Attributes:
        name: of its arrays.
        bias: whether it has one.
        activation: its name.
        stride: of the convolution.
        same: whether there are zeros around what it reads.
        pool: whether 2x2 max-pooling follows.
    """

    name: str
    bias: bool
    activation: str
    stride: int = 0
    same: bool = True
    pool: bool = False


def chain(channels: int, dense: int, bias: bool, activation: str) -> list[Layer]:
    """The layers of `networks.build`, with so many convolutions and dense layers."""
    convs = [Layer(f"conv_{i}", bias, activation, stride=1, pool=True) for i in range(channels)]
    denses = [Layer(f"layer_{i}", bias, activation) for i in range(dense)]
    return [*convs, *denses[:-1], denses[-1]._replace(activation="linear")]


def layers(config: Any, bias: bool, convolutions: bool = True) -> list[Layer]:
    """The layers of the network that settings describe by `channels`, `hidden` and `activation`."""
    return chain(len(config.channels) if convolutions else 0, len(config.hidden) + 1, bias, config.activation)


def head(saved: Saved, before: str = "") -> list[str]:
    """Lines that load the arrays as `t` and make of examples what the network reads, `h`.

    Args:
        saved: the run.
        before: lines between the imports and these.
    """
    shape = ", ".join(map(str, saved.shape))
    x = '(x - t["input_offset"])' if saved.values.offset is not None else "x"
    return [
        "import numpy as np",
        "from safetensors.numpy import load_file",
        before,
        't = load_file("champion.safetensors")',
        f'x = np.load("x.npy")  # Examples [n, {shape}], {saved.values.described()}.',
        f'h = ({x}.astype(np.float32) - t["input_mean"]) / t["input_scale"]',
    ]


def said(saved: Saved) -> list[str]:
    """Lines that say the class, or the targets, of each example by its `outputs`."""
    targets, names = saved.targets, list(saved.result["data"]["classes"])
    own = [] if saved.whole else [f"outputs = outputs[:, {saved.estimates}]"]
    if targets is not None:
        return [
            *own,
            f"mean, scale = np.array({list(targets.mean)}), np.array({list(targets.scale)})",
            f"print({list(targets.names)!r})",
            "estimates = outputs.astype(np.float64) * scale + mean",
            "print(estimates)",
        ]
    return [
        *own,
        "likely = np.exp(outputs - outputs.max(axis=1, keepdims=True))",
        "probabilities = likely / likely.sum(axis=1, keepdims=True)",
        f"classes = {names!r}",
        "print([classes[i] for i in outputs.argmax(axis=1)])",
    ]


def classifier(
    saved: Saved, layers: Sequence[Layer], *, gain: bool = False, first: bool = False, one: bool = False
) -> str:
    """The code of a chain of layers, whose outputs tell classes or targets.

    Args:
        saved: the run.
        layers: of the network, the last one's outputs being those of the network.
        gain: whether these are multiplied by `output_scale`.
        first: whether the first dense layer reads what convolutions give channel by channel.
        one: whether it has one output for two classes, that of the second.
    """
    lines, flat = head(saved, CONVOLVE.rstrip("\n") + "\n" if layers[0].stride else ""), False
    for layer in layers:
        kernel = f't["{layer.name}.kernel"]'
        bias = f' + t["{layer.name}.bias"]' if layer.bias else ""
        if layer.stride:
            lines.append(f"h = convolve(h, {kernel}, {layer.stride}, {layer.same}){bias}")
        else:
            if not flat:
                lines.append(f"h = h{'.transpose(0, 3, 1, 2)' if first else ''}.reshape(len(h), -1)")
                flat = True
            lines.append(f"h = h @ {kernel}{bias}")
        if layer.activation != "linear":
            lines.append(f"h = {ACTIVATIONS[layer.activation]}")
        if layer.pool:
            lines.append("h = pool(h)")
    if one:
        lines.append("h = np.pad(h, ((0, 0), (1, 0)))  # The first class has logit zero.")
    lines.append("outputs = h" + (' * t["output_scale"]' if gain else ""))
    return "\n".join([*lines, *said(saved)])


def theirs(saved: Saved, gain: bool = False) -> str:
    """The code of a network of the user's own, whose module they have.

    Args:
        saved: the run.
        gain: whether its outputs are multiplied by `output_scale`.
    """
    lines = [
        *head(saved),
        "params = {}",
        "for name, array in t.items():",
        '    if name not in ("input_mean", "input_scale", "input_offset", "output_scale"):',
        "        branch, (*path, last) = params, [int(n) if n.isdigit() else n for n in name.split('.')]",
        "        for step in path:",
        "            branch = branch.setdefault(step, {})",
        "        branch[last] = array",
        *(_WITH_STATE if saved.network and saved.network.update else _PARAMS),
    ]
    return "\n".join([*lines, *(['# Multiply what it gives by t["output_scale"].'] if gain else [])])


def autoencoder(saved: Saved, activations: Sequence[str], output: str, bias: bool) -> str:
    """The code of a tied autoencoder.

    Args:
        saved: the run.
        activations: of each layer's features.
        output: the activation of the reconstruction.
        bias: whether layers have biases.
    """
    lines = [*head(saved), "h = h.reshape(len(h), -1)"]

    def shaped(activation: str) -> list[str]:
        return [] if activation == "linear" else [f"h = {ACTIVATIONS[activation]}"]

    for i, activation in enumerate(activations):
        lines += [f'h = h @ t["layer_{i}.kernel"]' + (f' + t["layer_{i}.bias"]' if bias else ""), *shaped(activation)]
    lines.append("features = h")
    for i in range(len(activations) - 1, -1, -1):
        lines.append(f'h = h @ t["layer_{i}.kernel"].T' + (f' + t["layer_{i}.back"]' if bias else ""))
        lines += shaped(activations[i - 1] if i else output)
    restored = 'h.reshape(x.shape) * t["input_scale"] + t["input_mean"]'
    plus = ' + t["input_offset"]' if saved.values.offset is not None else ""
    return "\n".join([*lines, f"reconstructions = {restored}{plus}", "print(features.shape, reconstructions.shape)"])
