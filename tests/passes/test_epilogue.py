"""Regions of a main layer with what may follow it: enumerated, legal, and read back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from evaluate import model

from softneuro_core.epilogue import epilogue_regions, parse_epilogue, read_activation
from softneuro_core.errors import PluginError
from softneuro_core.graph import Graph, Region
from softneuro_core.importer import load

HEAD = "g (float[1,2,4,4] x, float[1,2,4,4] r) => (float[1,2,4,4] y) <float[2,2,1,1] w = {1,2,3,4}"


def graph_of(body: str, constants: str = "", outputs: str = "", opset: int = 17) -> Graph:
    text = HEAD + (f", {constants}" if constants else "") + f"> {{ c = Conv(x, w) {body} }}"
    return load(model(text.replace("=> (", f"=> ({outputs}"), opset=opset), passes=False)


def regions(graph: Graph) -> list[list[str]]:
    return [[la.op for la in layers] for exit in graph.layers for layers in epilogue_regions(graph, exit, ("Conv",))]


def test_a_chain_gives_every_prefix() -> None:
    graph = graph_of("a = Add(c, r) y = Relu(a)")
    assert regions(graph) == [["Conv"], ["Conv", "Add"], ["Conv", "Add", "Relu"]]
    whole = Region(graph, graph.layers)
    found = parse_epilogue(whole)
    assert found.main.op == "Conv" and found.bias is None and found.activation is not None
    assert found.residual is not None and whole.inputs[found.residual].name == "r"


def test_the_residual_may_stand_first() -> None:
    graph = graph_of("y = Add(r, c)")
    found = parse_epilogue(Region(graph, graph.layers))
    assert found.residual == 1 and found.activation is None


def test_a_constant_that_broadcasts_is_a_bias() -> None:
    graph = graph_of("a = Add(c, k) y = Tanh(a)", "float[2,1,1] k = {5, 6}")
    found = parse_epilogue(Region(graph, graph.layers))
    assert found.residual is None and found.bias is not None and found.bias.ravel().tolist() == [5, 6]


def test_a_residual_that_would_broadcast_the_result_is_none() -> None:
    graph = graph_of("a = Add(c, k) y = Reshape(a, s)", "float[3,1,1,1,1] k = {1, 2, 3}, int64[4] s = {1, 2, 12, 4}")
    assert regions(graph) == [["Conv"]]


def test_what_others_read_ends_the_region() -> None:
    assert regions(graph_of("y = Relu(c)", outputs="float[1,2,4,4] c, ")) == [["Conv"]]
    assert regions(graph_of("a = Relu(c) b = Neg(c) y = Add(a, b)")) == [["Conv"]]
    assert regions(graph_of("y = Add(c, c)")) == [["Conv"]]


def test_two_mains_that_are_added_give_two_regions() -> None:
    graph = graph_of("d = Conv(r, w) y = Add(c, d)")
    assert regions(graph).count(["Conv", "Add"]) == 2


ACTIVATIONS = {
    "Relu(c)": ("Relu", 0, 0),
    "Clip(c, zero, six)": ("Clip", 0, 6),
    "Clip(c, zero)": ("Clip", 0, math.inf),
    "LeakyRelu <alpha = 0.25> (c)": ("LeakyRelu", 0.25, 0),
    "HardSigmoid(c)": ("HardSigmoid", pytest.approx(0.2), 0.5),
    "HardSwish(c)": ("HardSwish", 0, 0),
    "Sigmoid(c)": ("Sigmoid", 0, 0),
    "Tanh(c)": ("Tanh", 0, 0),
    "Swish <alpha = 1.5> (c)": ("Swish", 1.5, 0),
    "Gelu(c)": ("Gelu", 0, 0),
    'Gelu <approximate = "tanh"> (c)': ("Gelu", 1, 0),
    "PRelu(c, slope)": ("PRelu", 0, 0),
}


@pytest.mark.parametrize("text", ACTIVATIONS)
def test_activations_are_read(text: str) -> None:
    constants = "float zero = {0}, float six = {6}, float[2,1,1] slope = {3, 4}"
    graph = graph_of(f"y = {text}", constants, opset=24)
    assert regions(graph)[1:] == [["Conv", text.split("(")[0].split()[0]]]
    found = parse_epilogue(Region(graph, graph.layers)).activation
    assert found is not None and (found.kind, found.alpha, found.beta) == ACTIVATIONS[text]
    if found.kind == "PRelu":
        assert np.array_equal(found.slope, np.array([[[3]], [[4]]]))  # type: ignore[arg-type]


def test_an_activation_with_variable_parameters_is_none() -> None:
    graph = graph_of("y = PRelu(c, r)")
    assert regions(graph) == [["Conv"]] and read_activation(graph.layers[-1]) is None


def test_other_regions_are_refused() -> None:
    graph = graph_of("a = Relu(c) y = Neg(a)")
    with pytest.raises(PluginError, match="no main layer with addition and activation"):
        parse_epilogue(Region(graph, graph.layers))
