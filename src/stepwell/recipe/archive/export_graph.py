"""A model as a graph that runs without its Python code: traced once, written, read back and compared before anyone gets it."""

from __future__ import annotations

import copy
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from stepwell.core.batch import Tree, tree_leaves, tree_map
from stepwell.core.errors import JobError
from stepwell.core.randomness import Rng
from stepwell.core.signature import Signature
from stepwell.core.slots import call_model

__all__ = ["compare", "example_inputs", "input_facts", "onnx_bytes", "program_bytes", "require_onnx"]

ROWS = 3  # traced with; one row, or as many as another size has, could be taken for a constant
TRIED = (1, 2, 5)  # compared with
TOLERANCE = 1e-4  # relative to the largest output: another order of summation, not another function


def example_inputs(signature: Signature, rows: int) -> Tree:
    """Inputs of a signature's shapes, drawn."""
    rng = Rng(rows).generator()
    if signature.kind in ("tokens", "document"):
        return torch.randint(0, signature.vocab_size, (rows, *signature.shape), generator=rng)
    numbers = torch.randn(rows, *signature.shape, generator=rng)
    if signature.kind != "table":
        return numbers
    codes = [torch.randint(0, size, (rows,), generator=rng) for size in signature.cardinalities]
    return {"numeric": numbers, "categories": torch.stack(codes, 1)}


def resized(inputs: Tree, rows: int) -> Tree:
    """The same inputs, repeated or cut to a number of rows."""
    return tree_map(lambda leaf: leaf[torch.arange(rows) % len(leaf)], inputs)


def input_facts(inputs: Tree) -> list[dict[str, Any]]:
    """Name, dtype and shape of each input, its first dimension the batch."""
    named = inputs.items() if isinstance(inputs, dict) else enumerate(inputs if isinstance(inputs, (tuple, list)) else [inputs])
    single = isinstance(inputs, Tensor)
    return [
        {
            "name": name if isinstance(name, str) else "inputs" if single else f"inputs_{name}",
            "dtype": str(leaf.dtype).removeprefix("torch."),
            "shape": ["batch", *leaf.shape[1:]],
            "keyword": isinstance(name, str),
        }
        for name, leaf in named
    ]


def program_bytes(model: nn.Module, inputs: Tree) -> bytes:
    """The file of a torch.export program with any number of rows, compared with the model.

    Raises:
        JobError: torch can't trace the model, or the program gives other outputs.
    """
    held = io.BytesIO()
    with _quiet():
        torch.export.save(_program(model, inputs), held)
        held.seek(0)
        again = torch.export.load(held).module()
    compare(model, lambda given: call_model(again, given), inputs, "torch-export")
    return held.getvalue()


def onnx_bytes(model: nn.Module, inputs: Tree) -> bytes:
    """The file of an ONNX model with any number of rows; compared with the model where onnxruntime is installed.

    Raises:
        JobError: packages are missing, torch can't trace or translate the model, or the result gives other outputs.
    """
    require_onnx()
    names = [item["name"] for item in input_facts(inputs)]
    with torch.no_grad():
        outputs = call_model(model, inputs)
    with _quiet():
        program = _program(model, inputs)
        with _explained("onnx"):
            made = torch.onnx.export(
                program, input_names=names, output_names=output_names(outputs), verbose=False, optimize=True, dynamo=True
            )
            assert made is not None
            content: bytes = made.model_proto.SerializeToString()
    if importlib.util.find_spec("onnxruntime") is not None:
        import onnxruntime

        session = onnxruntime.InferenceSession(content)

        def run(given: Tree) -> Tree:
            feed = {name: leaf.numpy() for name, leaf in zip(names, tree_leaves(given))}
            return tuple(torch.from_numpy(output) for output in session.run(None, feed))

        compare(model, run, inputs, "onnx")
    return content


def output_names(outputs: Tree) -> list[str]:
    """One name per output: of several tasks the tasks' own."""
    if isinstance(outputs, dict):
        return [str(name) for name in outputs]
    many = tree_leaves(outputs)
    return ["outputs"] if len(many) == 1 else [f"outputs_{place}" for place in range(len(many))]


def require_onnx() -> None:
    """Refuse where the packages that ONNX needs are not installed.

    Raises:
        JobError: one is missing.
    """
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise JobError(
            f"export to onnx needs {' and '.join(missing)}",
            expected="the packages of the extra `export`",
            fix='Install them: pip install "stepwell[export]"',
        )


def compare(model: nn.Module, exported: Any, inputs: Tree, to: str) -> None:
    """Refuse an export that doesn't compute what the model does, for one, two and five rows.

    Raises:
        JobError: its outputs differ, or it fails.
    """
    for rows in TRIED:
        given = resized(inputs, rows)
        with torch.no_grad(), _explained(to):
            wanted, got = tree_leaves(call_model(model, given)), tree_leaves(exported(given))
        if [leaf.shape for leaf in wanted] != [leaf.shape for leaf in got]:
            raise _differs(to, f"gives outputs of other shapes on {rows} rows")
        largest = max((float(leaf.abs().max()) for leaf in wanted if leaf.numel()), default=0.0)
        apart = max((float((one - other).abs().max()) for one, other in zip(wanted, got) if one.numel()), default=0.0)
        if not apart <= TOLERANCE * max(largest, 1.0):
            raise _differs(to, f"is {apart:.3g} apart on {rows} rows")


def _differs(to: str, what: str) -> JobError:
    return JobError(
        f"the {to} graph doesn't compute what the model does: it {what}",
        expected="the model's own outputs",
        fix="Export with --to safetensors, whose weights are the model's bits",
    )


def _program(model: nn.Module, inputs: Tree) -> Any:
    batch = torch.export.Dim("batch", min=1)
    traced = copy.deepcopy(model).eval()
    given = resized(inputs, ROWS)
    args: tuple[Any, ...] = () if isinstance(given, dict) else tuple(given) if isinstance(given, (tuple, list)) else (given,)
    kwargs = given if isinstance(given, dict) else {}
    shapes: Any = {name: {0: batch} for name in kwargs} or tuple({0: batch} for _ in args)
    with torch.no_grad(), _explained("torch-export"):
        return torch.export.export(traced, args, kwargs, dynamic_shapes=shapes)


@contextmanager
def _explained(to: str) -> Iterator[None]:
    try:
        yield
    except JobError:
        raise
    except Exception as error:  # whatever the tracer makes of a model it can't follow
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise JobError(
            f"torch can't export this model to {to}: {reason[:300]}",
            expected="a model whose forward is made of tensor operations, for any number of rows",
            fix="Export with --to safetensors and build the module there, or change its forward",
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """The tracer's own remarks are about its insides; what matters is compared afterwards."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
