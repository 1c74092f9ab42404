"""What goes beside an exported model: how raw data become its inputs, what its outputs mean, and the lines that load it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["INSIDE", "OUTSIDE", "input_words", "output_words", "snippet"]

INSIDE = "the network from prepared inputs to raw outputs, in evaluation mode, with the delivered weights"
OUTSIDE = "how raw data become inputs, and outputs become answers; model.json says both"

_LOADERS = {
    "torch-export": """\
from pathlib import Path
import torch

folder = Path({folder!r})
model = torch.export.load(folder / "model.pt2").module()
outputs = model({call})  # any number of rows""",
    "onnx": """\
from pathlib import Path
import numpy
import onnxruntime

folder = Path({folder!r})
session = onnxruntime.InferenceSession(folder / "model.onnx")
outputs = session.run(None, {feed})  # any number of rows""",
    "safetensors": """\
from pathlib import Path
from stepwell.recipe.delivered import read_delivered

folder = Path({folder!r})
delivered = read_delivered(folder)  # delivered.preparation turns a file into inputs, and outputs into answers
outputs = delivered.model({call})  # any number of rows""",
    "weights": """\
from pathlib import Path
from safetensors.torch import load_file

folder = Path({folder!r})
weights = load_file(folder / "model.safetensors")  # then model.load_state_dict(weights), of the module given to fit""",
}


def snippet(loader: str, folder: str, inputs: list[dict[str, Any]]) -> str:
    """The lines that load an export, and call it on two rows of zeros.

    Args:
        loader: the format, or "weights" for weights whose architecture isn't on record.
        folder: where the export is.
        inputs: name, dtype and shape of each, as model.json has them.
    """
    by_name = [f"{item['name']}=" if item["keyword"] else "" for item in inputs]
    made = [f"torch.zeros({_shape(item)}, dtype=torch.{item['dtype']})" for item in inputs]
    call = ", ".join(name + zeros for name, zeros in zip(by_name, made))
    feed = ", ".join(f'"{item["name"]}": numpy.zeros(({_shape(item)}), dtype="{item["dtype"]}")' for item in inputs)
    text = _LOADERS[loader].format(folder=folder, call=call, feed="{" + feed + "}")
    return text.replace("from pathlib import Path\n", "from pathlib import Path\nimport torch\n") if _needs_torch(text) else text


def _needs_torch(text: str) -> bool:
    return "torch.zeros" in text and "import torch\n" not in text


def _shape(item: Mapping[str, Any]) -> str:
    return ", ".join(["2", *map(str, item["shape"][1:])])


def input_words(preparation: Mapping[str, Any]) -> list[str]:
    """How raw data become inputs, a sentence each; the figures stand in the preparation itself.

    Args:
        preparation: as `Preparation.to_dict` gives it.
    """
    kind, read = preparation["kind"], preparation["inputs"]
    if kind == "table":
        return _columns(read["columns"])
    if kind == "series":
        seen = [_feature(column, "") for part in ("numeric", "categories") for column in read[part]]
        ahead = [_feature(column, f", of {read['horizon']} rows later") for column in read["known"]]
        return [f"one window: the last {read['length']} rows in the order of time, the columns side by side", *seen, *ahead]
    if kind == "documents":
        return [
            "words in small letters become their place in inputs.vocabulary (place 1 for any other word)",
            f"cut to {read['length']} words, or filled up with 0 at the end",
        ]
    if kind == "text":
        return [f"each character becomes 1 + its place in inputs.characters, any other one 0; windows of {read['length']}"]
    if kind in ("groups", "drawn"):
        reader = read.get("reader", "array")
        return ["one element at a time: the model gives its embedding", *input_words({"kind": reader, "inputs": read["inner"]})]
    if kind == "masked_images":
        return input_words({"kind": read["reader"], "inputs": read["inner"]})
    if kind == "images":
        size = f"{read['height']} x {read['width']} pixels (height x width)"
        return [f"resized to {size}, values in [0, 1], then (value - mean) / scale per channel", "channels first"]
    each = {"vector": "column", "image": "channel, channels first", "mask": "channel, channels first", "series": "feature"}
    divided = f"value / {read['divide']!r}" if read.get("divide", 1.0) != 1.0 else "value"
    return [f"({divided} - mean) / scale, with inputs.mean and inputs.scale, one for all or one per {each[read['layout']]}"]


def _columns(columns: Mapping[str, Any]) -> list[str]:
    numeric, categories = columns["numeric"], columns["categories"]
    words = [f"numbers {place}: {_column(column)}" for place, column in enumerate(numeric)]
    flagged = [column["name"] for column in numeric if column["flagged"]]
    words += [f"numbers {len(numeric) + place}: 1 where {name} is empty, else 0" for place, name in enumerate(flagged)]
    if columns.get("shape"):
        words.append(f"the numbers, in this order, fill the shape {columns['shape']} row by row")
    return words + [f"categories {place}: {_column(column)}" for place, column in enumerate(categories)]


def _feature(column: Mapping[str, Any], when: str) -> str:
    """A column of a series: without gaps, its categories spread out."""
    if "values" in column:
        return f"{column['name']}{when}: a number per value of its list, 1 for its own, else 0; all 0 where it is not there"
    return f"{column['name']}{when}: (value - {column['mean']!r}) / {column['scale']!r}"


def _column(column: Mapping[str, Any]) -> str:
    if "values" in column:
        return f"{column['name']}: 1 + the place of its value in the list of values; 0 where it is empty or not there"
    return f"{column['name']}: {column['fill']!r} where it is empty; then (value - {column['mean']!r}) / {column['scale']!r}"


def output_words(target: Mapping[str, Any], task: str) -> list[str]:
    """What the outputs mean.

    Args:
        target: of the preparation, as its `to_dict` gives it.
        task: what the model was trained for.
    """
    if target.get("kind") == "many":
        return [f"{one['names'][0]}: {word}" for one in target["encoders"] for word in output_words(one, one["task"])]
    if target.get("kind") == "mask":
        two = len(target["values"]) == 2
        if two:
            return [f"a logit per pixel: sigmoid gives the probability of value {target['values'][1]}, not {target['values'][0]}"]
        return [f"a score per value and pixel: softmax over the second dimension gives the probabilities of {target['values']}"]
    if target.get("kind") == "embedding":
        return ["an embedding: near ones are of the same kind"]
    if task == "regression":
        return [f"in units of the training data: times {target['scale']!r}, plus {target['mean']!r}"]
    if task == "language_modeling":
        return ["scores of the next token at each place: softmax gives probabilities"]
    if task in ("binary", "multilabel"):
        what = "each label" if task == "multilabel" else f"class {(target.get('classes') or ['', '1'])[1]!r}"
        return [f"logits: sigmoid gives the probability of {what}"]
    return [f"scores: softmax gives the probabilities of the classes, in the order {target.get('classes')}"]
