"""Operand sizes ONNX's shape inference does not compare: kernels trust them, so they are checked here once."""

from __future__ import annotations

from collections.abc import Callable

from softneuro_core.errors import ModelError
from softneuro_core.graph import Layer, Value


def check_operand_sizes(layer: Layer, file: str) -> None:
    """Raises :class:`ModelError` naming the layer if its weights do not fit its data; unknown shapes pass."""
    check = _CHECKS.get(layer.op)
    problem = None if check is None else check(layer)
    if problem is not None:
        raise ModelError(f"{layer.op}: {problem}", file=file, layer=layer.name)


def _shape(layer: Layer, position: int) -> tuple[int, ...] | None:
    value: Value | None = layer.inputs[position] if len(layer.inputs) > position else None
    return value.static_shape if value is not None and value.is_static else None


def _dim(layer: Layer, position: int, axis: int) -> int | None:
    value = layer.inputs[position] if len(layer.inputs) > position else None
    if value is None or value.shape is None or len(value.shape) <= axis:
        return None
    dim = value.shape[axis]
    return dim if isinstance(dim, int) else None


def _conv(layer: Layer, weight_at: int = 1, bias_at: int = 2) -> str | None:
    channels, weight, bias = _dim(layer, 0, 1), _shape(layer, weight_at), _shape(layer, bias_at)
    groups = layer.attrs.get("group", 1)
    if weight is None or len(weight) < 3:
        return None
    if groups < 1 or weight[0] % groups:
        return f"{weight[0]} filters cannot be split into {groups} groups"
    if channels is not None and channels != weight[1] * groups:
        needed = weight[1] * groups
        return f"the input has {channels} channels, the weights {list(weight)} in {groups} groups need {needed}"
    return _kernel(layer, weight) or _bias(bias, weight[0]) or _windows(layer, weight[2:])


def _windows(layer: Layer, kernel: tuple[int, ...]) -> str | None:
    """A window larger than the padded input has no place in it; ONNX leaves the output's size unknown."""
    if layer.attrs.get("auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER") or min(kernel) < 1:
        return None
    rank = len(kernel)
    pads = layer.attrs.get("pads") or (0,) * (2 * rank)
    dilations = layer.attrs.get("dilations") or (1,) * rank
    for axis, (taps, dilation) in enumerate(zip(kernel, dilations, strict=False)):
        size, reach = _dim(layer, 0, 2 + axis), (taps - 1) * dilation + 1
        if size is not None and reach > (padded := size + pads[axis] + pads[axis + rank]):
            return f"a window of {reach} does not fit into the padded input's {padded} (spatial axis {axis})"
    return None


def _pool(layer: Layer) -> str | None:
    kernel = layer.attrs.get("kernel_shape")
    return None if kernel is None else _windows(layer, tuple(kernel))


def _conv_transpose(layer: Layer) -> str | None:
    channels, weight, bias = _dim(layer, 0, 1), _shape(layer, 1), _shape(layer, 2)
    groups = layer.attrs.get("group", 1)
    if weight is None or len(weight) < 3:
        return None
    if groups < 1 or weight[0] % groups:
        return f"{weight[0]} channels cannot be split into {groups} groups"
    if channels is not None and channels != weight[0]:
        return f"the input has {channels} channels, the weights {list(weight)} need {weight[0]}"
    return _kernel(layer, weight) or _bias(bias, weight[1] * groups)


def _kernel(layer: Layer, weight: tuple[int, ...]) -> str | None:
    given = layer.attrs.get("kernel_shape")
    if given is not None and tuple(given) != weight[2:]:
        return f"kernel_shape {list(given)} is not that of the weights {list(weight)}"
    return None


def _bias(bias: tuple[int, ...] | None, wanted: int) -> str | None:
    return None if bias is None or bias == (wanted,) else f"the bias is {list(bias)}, not [{wanted}]"


def _qlinear_conv(layer: Layer) -> str | None:
    return _conv(layer, 3, 8)


def _per_channel(first: int, last: int) -> Callable[[Layer], str | None]:
    def check(layer: Layer) -> str | None:
        channels = _dim(layer, 0, 1)
        if channels is None or not layer.attrs.get("spatial", 1):
            return None
        for position in range(first, last + 1):
            shape = _shape(layer, position)
            if shape is not None and shape != (channels,):
                return f"operand {position} is {list(shape)}, the input has {channels} channels"
        return None

    return check


def _gemm(layer: Layer) -> str | None:
    depth = _dim(layer, 0, 0 if layer.attrs.get("transA", 0) else 1)
    needed = _dim(layer, 1, 1 if layer.attrs.get("transB", 0) else 0)
    if depth is not None and needed is not None and depth != needed:
        return f"the first matrix has depth {depth}, the second {needed}"
    made, added = (_dim(layer, 0, 1 if layer.attrs.get("transA", 0) else 0), _columns(layer)), _shape(layer, 2)
    for wanted, found in zip(reversed(made), reversed(added or ()), strict=False):
        if wanted is not None and found not in (1, wanted):
            return f"C is {list(added or ())}, which does not broadcast to {list(made)}"
    return None


def _columns(layer: Layer) -> int | None:
    return _dim(layer, 1, 0 if layer.attrs.get("transB", 0) else 1)


def _same_elements(layer: Layer) -> str | None:
    data, made = layer.inputs[0], layer.results[0]
    if data is None or not (data.is_static and made.is_static) or data.size == made.size:
        return None
    return f"{list(data.static_shape)} has {data.size} elements, {list(made.static_shape)} has {made.size}"


def _recurrent(gates: int) -> Callable[[Layer], str | None]:
    def check(layer: Layer) -> str | None:
        size = _dim(layer, 0, 2)
        hidden = layer.attrs.get("hidden_size") or _dim(layer, 2, 2)
        directions = 2 if layer.attrs.get("direction", "forward") == "bidirectional" else 1
        if hidden is None:
            return None
        wanted: dict[int, tuple[int | None, ...]] = {
            1: (directions, gates * hidden, size),
            2: (directions, gates * hidden, hidden),
            3: (directions, 2 * gates * hidden),
        }
        for position, shape in wanted.items():
            found = _shape(layer, position)
            if found is not None and None not in shape and found != shape:
                return f"operand {position} is {list(found)}, not {list(shape)}"
        return None

    return check


_CHECKS: dict[str, Callable[[Layer], str | None]] = {
    "Conv": _conv,
    "ConvInteger": lambda layer: _conv(layer, 1, 99),
    "QLinearConv": _qlinear_conv,
    "ConvTranspose": _conv_transpose,
    "BatchNormalization": _per_channel(1, 4),
    "MaxPool": _pool,
    "AveragePool": _pool,
    "LpPool": _pool,
    "InstanceNormalization": _per_channel(1, 2),
    "Gemm": _gemm,
    "Reshape": _same_elements,
    "Squeeze": _same_elements,
    "Unsqueeze": _same_elements,
    "LSTM": _recurrent(4),
    "GRU": _recurrent(3),
    "RNN": _recurrent(1),
}
