"""LSTM and GRU with the usual activations: one task a direction; time runs inside."""

from __future__ import annotations

import numpy as np
from numba import njit

from softneuro_cpu_numba.kernels.base import FAST_SUM, STRICT, f32, sigmoid32, tanh32
from softneuro_cpu_numba.native import kernel


@njit(fastmath=STRICT, inline="always")
def accumulate(gates, weights, x, x0, count, width):
    """gates[:] += x @ weights; four inputs a pass, so that the sums are loaded and stored a quarter as often."""
    i = 0
    while i + 4 <= count:
        a, b, c, d = x[x0 + i], x[x0 + i + 1], x[x0 + i + 2], x[x0 + i + 3]
        w = i * width
        for j in range(width):
            v = gates[j] + a * weights[w + j]
            v += b * weights[w + width + j]
            v += c * weights[w + 2 * width + j]
            gates[j] = v + d * weights[w + 3 * width + j]
        i += 4
    while i < count:
        a, w = x[x0 + i], i * width
        for j in range(width):
            gates[j] += a * weights[w + j]
        i += 1


@njit(fastmath=STRICT, inline="always")
def start(state, given, at, count):
    """state[:] = what lies at address ``given``, element ``at``; zeros without an address."""
    first = f32(given)
    for j in range(count):
        state[j] = first[at + j] if given != 0 else np.float32(0.0)


@njit(fastmath=STRICT, inline="always")
def put(wanted, at, state, count):
    """Writes the state to address ``wanted``, element ``at``, if there is one."""
    if wanted != 0:
        out = f32(wanted)
        for j in range(count):
            out[at + j] = state[j]


@kernel
def lstm():
    """args: x h0 c0 (0: zeros) | y h c (0: unwanted) | w [D, I, 4H] r [D, H, 4H] bias [D, 4H] peepholes [D, 3H] |
    time batch inputs hidden directions reversed_first | x steps of time, batch | state steps of batch, direction | y
    steps of time, direction, batch.

    Gates stand in ONNX order i o f c. scratch: 4H + 2H floats.
    """

    def run(args, begin, end, scratch):
        x = f32(args[0])
        time, batch, count, hidden, backward = args[10], args[11], args[12], args[13], args[15]
        x_time, x_batch, s_batch, s_direction = args[16], args[17], args[18], args[19]
        y_time, y_direction, y_batch = args[20], args[21], args[22]
        width = 4 * hidden
        gates, h, c = f32(scratch), f32(scratch + width * 4), f32(scratch + (width + hidden) * 4)
        for direction in range(begin, end):
            w, r = f32(args[6] + direction * count * width * 4), f32(args[7] + direction * hidden * width * 4)
            bias, peep = f32(args[8] + direction * width * 4), f32(args[9] + direction * 3 * hidden * 4)
            reverse = backward == 1 or direction == 1
            for b in range(batch):
                state = b * s_batch + direction * s_direction
                start(h, args[1], state, hidden)
                start(c, args[2], state, hidden)
                for step in range(time):
                    t = time - 1 - step if reverse else step
                    for j in range(width):
                        gates[j] = bias[j]
                    accumulate(gates, w, x, t * x_time + b * x_batch, count, width)
                    accumulate(gates, r, h, 0, hidden, width)
                    for j in range(hidden):
                        i_gate = sigmoid32(gates[j] + peep[j] * c[j])
                        f_gate = sigmoid32(gates[2 * hidden + j] + peep[2 * hidden + j] * c[j])
                        cell = f_gate * c[j] + i_gate * tanh32(gates[3 * hidden + j])
                        o_gate = sigmoid32(gates[hidden + j] + peep[hidden + j] * cell)
                        c[j] = cell
                        h[j] = o_gate * tanh32(cell)
                    put(args[3], t * y_time + direction * y_direction + b * y_batch, h, hidden)
                put(args[4], state, h, hidden)
                put(args[5], state, c, hidden)

    run.fastmath = FAST_SUM
    return run


@kernel
def gru(reset_behind):
    """args as :func:`lstm`'s, c0 and c unused; r [D, H * 2H of z and r, then H * H of the candidate], bias [D, 3H],
    and in place of peepholes the candidate's bias of h [D, H], which ``reset_behind`` needs apart.

    Gates stand in ONNX order z r h. scratch: 3H + 2H floats.
    """

    def run(args, begin, end, scratch):
        x = f32(args[0])
        time, batch, count, hidden, backward = args[10], args[11], args[12], args[13], args[15]
        x_time, x_batch, s_batch, s_direction = args[16], args[17], args[18], args[19]
        y_time, y_direction, y_batch = args[20], args[21], args[22]
        width = 3 * hidden
        gates, candidate = f32(scratch), f32(scratch + 2 * hidden * 4)
        h, part = f32(scratch + width * 4), f32(scratch + (width + hidden) * 4)
        for direction in range(begin, end):
            recurrence = args[7] + direction * hidden * width * 4
            w, r, r_candidate = (
                f32(args[6] + direction * count * width * 4),
                f32(recurrence),
                f32(recurrence + hidden * 2 * hidden * 4),
            )
            bias, extra = f32(args[8] + direction * width * 4), f32(args[9] + direction * hidden * 4)
            reverse = backward == 1 or direction == 1
            for b in range(batch):
                state = b * s_batch + direction * s_direction
                start(h, args[1], state, hidden)
                for step in range(time):
                    t = time - 1 - step if reverse else step
                    for j in range(width):
                        gates[j] = bias[j]
                    accumulate(gates, w, x, t * x_time + b * x_batch, count, width)
                    accumulate(gates, r, h, 0, hidden, 2 * hidden)
                    if reset_behind:
                        for j in range(hidden):
                            part[j] = extra[j]
                        accumulate(part, r_candidate, h, 0, hidden, hidden)
                        for j in range(hidden):
                            candidate[j] += sigmoid32(gates[hidden + j]) * part[j]
                    else:
                        for j in range(hidden):
                            part[j] = sigmoid32(gates[hidden + j]) * h[j]
                        accumulate(candidate, r_candidate, part, 0, hidden, hidden)
                    for j in range(hidden):
                        z = sigmoid32(gates[j])
                        h[j] = (np.float32(1.0) - z) * tanh32(candidate[j]) + z * h[j]
                    put(args[3], t * y_time + direction * y_direction + b * y_batch, h, hidden)
                put(args[4], state, h, hidden)

    run.fastmath = FAST_SUM
    return run
