"""Hidden mixup: examples are mixed inside the model, after the module that makes vectors of them."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from stepwell.core.batch import Batch, Tree, tree_leaves, tree_map
from stepwell.core.batches.pairing import classes_known, drawn_share, lerp_tree, mass_of, partners_in, require_mixing
from stepwell.core.catalog import technique
from stepwell.core.check import require
from stepwell.core.errors import JobError, nearest
from stepwell.core.facts import DataFacts
from stepwell.core.objectives.soft_targets import Modifier, wide_dtype
from stepwell.core.randomness import Rng
from stepwell.core.slots import Objective

__all__ = ["HiddenMixup", "mix_halves"]

_EXTRA = "hidden_mixup"


def mix_halves(rows: Tensor, lam: Tensor) -> Tensor:
    """lam * first half + (1 - lam) * second half, row by row: (2 N, ...) -> (N, ...).

    Args:
        lam: (N,), shares of the first half's rows.

    >>> mix_halves(torch.tensor([[0.0], [4.0], [8.0], [8.0]]), torch.tensor([0.75, 0.5])).tolist()
    [[2.0], [6.0]]
    """
    own, other = rows.chunk(2)
    return torch.lerp(other, own, lam.to(rows.dtype).view(-1, *(1,) * (rows.ndim - 1)))


class _Mixing:
    """Two hooks for one forward pass: `at` mixes, and the model's next call takes both away again.

    They must outlive the pass: activation checkpointing runs the module again in the backward pass. Evaluation, or a
    call by anyone else, begins at the model itself and so never meets them. Methods, not closures, so that a model that
    still carries them can be copied.
    """

    def __init__(self, name: str, lam: Tensor) -> None:
        self.name, self.lam, self.handles = name, lam, list[Any]()
        self.num_passes = self.num_calls = 0  # of the model, and of the module within it
        self.armed = True

    def attach(self, model: nn.Module, module: nn.Module) -> None:
        self.handles = [model.register_forward_pre_hook(self.begin), module.register_forward_hook(self.mix)]

    def begin(self, model: nn.Module, args: Any) -> None:
        if self.armed:
            self.num_passes += 1
        else:
            self.detach()

    def detach(self) -> None:
        for handle in self.handles:
            handle.remove()

    def mix(self, module: nn.Module, args: Any, outputs: Any) -> Tensor:
        self.num_calls += 1
        size = len(self.lam)
        if not isinstance(outputs, Tensor) or not outputs.is_floating_point() or outputs.shape[:1] != (2 * size,):
            kind = f"{outputs.dtype} {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else type(outputs).__name__
            raise JobError(
                f"hidden_mixup.at is {self.name!r}, whose output for {2 * size} samples is {kind}",
                expected="a module called once, that gives one floating tensor with a row per sample",
                fix="Name the embedding, or a block that every path of the model goes through once",
            )
        return mix_halves(outputs, self.lam)


class _HiddenMixed(Modifier):
    def __init__(self, inner: Objective, settings: HiddenMixup) -> None:
        super().__init__(inner)
        self.settings = settings
        self._last: _Mixing | None = None

    def forward(self, model: nn.Module, batch: Batch) -> Tree:
        if self._last is not None:
            self._last.detach()
            self._last = None
        extras = batch.extras
        if not isinstance(extras, dict) or _EXTRA not in extras:
            return self.inner.forward(model, batch)
        name = named_module(model, self.settings.at)
        mixing = self._last = _Mixing(name, extras[_EXTRA]["lam"])
        mixing.attach(model, model.get_submodule(name))
        both = replace(batch, inputs=_joined(batch.inputs, extras[_EXTRA]["partner"]))
        try:
            outputs = self.inner.forward(model, both)
        except RuntimeError as error:
            if mixing.num_calls == 0:
                raise
            raise _bypassed(name, f"the model failed after it: {error}") from error
        finally:
            mixing.armed = False
        if mixing.num_calls != mixing.num_passes:
            raise _bypassed(name, f"it was called {mixing.num_calls} times")
        if any(leaf.shape[:1] != (len(batch),) for leaf in tree_leaves(outputs)):
            shapes = ", ".join(str(tuple(leaf.shape)) for leaf in tree_leaves(outputs))
            raise _bypassed(name, f"outputs are {shapes} for {len(batch)} samples")
        return outputs


def _bypassed(name: str, how: str) -> JobError:
    return JobError(
        f"hidden_mixup.at is {name!r}, which not every path of the model goes through once: {how}",
        expected="a module after which nothing depends on the inputs but through its output",
        fix="Name a later module, or one that joins the paths",
    )


def _joined(tree: Tree, other: Tree) -> Tree:
    others = iter(tree_leaves(other))
    return tree_map(lambda leaf: torch.cat([leaf, next(others)]), tree)


def named_module(model: nn.Module, pattern: str) -> str:
    """The full name of the one module that a name or pattern matches.

    Raises:
        JobError: it matches none, or several.
    """
    names = [name for name, _ in model.named_modules() if name]
    found: list[str] = [name for name in names if fnmatchcase(name, pattern)]
    if len(found) == 1:
        return found[0]
    what = "no module" if not found else f"{len(found)} modules ({', '.join(found[:4])})"
    raise JobError(
        f"hidden_mixup.at is {pattern!r}, which matches {what} of the model",
        expected="the name of one module",
        fix=nearest(pattern, names) if not found else "Write one of the names in full",
    )


@technique(
    id="hidden_mixup",
    slot="objective",
    role="modifier",
    paper="Verma et al. 2019, arXiv:1806.05236",
    needs=("soft_targets",),
    conflicts={
        "distillation": "its teacher must see the very inputs that the student sees (Beyer et al. 2022, arXiv:2106.05237), "
        "but mixed hidden vectors are nobody's input; use mixup there"
    },
    search={"alpha": (0.1, 2.0, "log"), "probability": (0.25, 1.0, "linear")},
)
class HiddenMixup:
    """Mix pairs of examples inside the model: after the embedding, or any module that every path goes through.

    What: examples and their partners go through the model up to the module `at`, whose outputs h are mixed to
    lam h_i + (1 - lam) h_j with one lam ~ Beta(alpha, alpha) per step; targets are mixed alike, and everything after
    the module sees N mixed samples. Why: mixup where inputs can't be averaged (token ids, category codes), and smoother
    decisions in hidden layers. When not: `at` stands late in a large model (what comes before it is computed twice).
    Batch norm before `at` sees the examples and the partners, each example twice. Evaluation never mixes. List it after
    techniques that change the inputs: partners are taken as the inputs are by then.

    Args:
        at: name of one module (wildcards allowed), whose output is one tensor with a row per sample.
        alpha: Beta concentration, no unit, > 0. Paper: 2.0 on CIFAR-10; 0.2 is mild, as in `mixup`.
        probability: share of the steps that are mixed, in [0, 1]; the others are left as they are.
        num_classes: K, where targets are class numbers; filled in from the data by a job.

    Shapes: inputs any tree (N, ...); targets (N,) or (N, T) int64 -> (..., K) float; float targets keep their shape.

    Raises:
        JobError: a setting out of range; `at` matches no module or several, or a path goes around it.

    Paper: Verma et al., "Manifold Mixup: Better Representations by Interpolating Hidden States", ICML 2019,
    arXiv:1806.05236. On word embeddings: Guo, Mao and Zhang 2019, arXiv:1905.08941.

    >>> mixed = HiddenMixup(at="embedding", num_classes=2).on_batch(Batch(torch.tensor([[5], [7]]), torch.tensor([0, 1])), Rng(0))
    >>> mixed.inputs.tolist(), mixed.extras["hidden_mixup"]["partner"].tolist(), mixed.targets.shape
    ([[5], [7]], [[7], [5]], torch.Size([2, 2]))
    """

    at: str
    alpha: float = 0.2
    probability: float = 1.0
    num_classes: int | None = None

    def __post_init__(self) -> None:
        named = isinstance(self.at, str) and bool(self.at)
        require(named, "hidden_mixup.at", self.at, "the name of a module", 'Write e.g. at: "embedding"')
        require_mixing("hidden_mixup", self.alpha, self.probability, self.num_classes)

    def completed(self, facts: DataFacts) -> dict[str, tuple[Any, str]]:
        """The number of classes, from the model or the data."""
        return classes_known(self.num_classes, facts)

    def on_batch(self, batch: Batch, rng: Rng) -> Batch:
        """The batch with its targets mixed, and with what the model needs to mix alike."""
        lam = drawn_share(rng, self.alpha, self.probability)
        if lam is None:
            return batch
        partner = partners_in(batch)
        mass = tree_map(lambda targets: mass_of(targets, self.num_classes, "hidden_mixup"), batch.targets)
        shares = torch.full((len(batch),), lam, dtype=wide_dtype(partner.device), device=partner.device)
        mixing = {"partner": tree_map(lambda leaf: leaf[partner], batch.inputs), "lam": shares}
        extras = batch.extras if isinstance(batch.extras, dict) else {}
        return replace(batch, targets=lerp_tree(mass, partner, lam), extras={**extras, _EXTRA: mixing})

    def __call__(self, objective: Objective) -> Objective:
        return _HiddenMixed(objective, self)
