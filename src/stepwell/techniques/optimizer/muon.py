"""Muon: momentum that is orthogonalised before it is applied, for the hidden matrices; AdamW for everything else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from stepwell.core.catalog import technique
from stepwell.core.check import require, require_between, require_one_of
from stepwell.core.errors import JobError, nearest
from stepwell.core.updates.kernels import adam_kernel_

__all__ = ["Muon", "MuonOptimizer", "muon_groups", "orthogonalized"]

Scaling = Literal["match_rms_adamw", "original"]
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, Jordan 2024
# Parts of a name that embeddings and output layers go by where nothing else is said.
ENDS = ("*embed*", "wte", "wpe", "head", "heads", "*_head", "classifier", "fc", "output", "score")


def orthogonalized(matrices: Tensor, *, num_iterations: int = 5, eps: float = 1e-7) -> Tensor:
    """Matrices with the same singular vectors and singular values near 1 (in about [0.7, 1.2]), by Newton-Schulz.

    X <- X / max(|X|, eps), |X| the Frobenius norm; then, `num_iterations` times, X <- a X + (b A + c A^2) X with A = X X^T.
    Runs in the matrices' own precision, 16-bit ones in float32.

    Args:
        matrices: (..., rows, columns); leading dimensions are a batch.

    Paper: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/.

    >>> [round(value, 3) for value in orthogonalized(torch.eye(2, dtype=torch.float64) * 100).diagonal().tolist()]
    [1.108, 1.108]
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    batch = x.reshape(-1, *x.shape[-2:]).to(torch.promote_types(x.dtype, torch.float32))
    batch = batch / torch.linalg.matrix_norm(batch, keepdim=True).clamp(min=eps)
    first, third, fifth = COEFFICIENTS
    for _ in range(num_iterations):
        gram = batch @ batch.mT
        batch = torch.baddbmm(batch, torch.baddbmm(gram, gram, gram, beta=third, alpha=fifth), batch, beta=first)
    x = batch.to(matrices.dtype).view(x.shape)
    return x.mT if tall else x


def muon_groups(groups: Iterable[Any], patterns: Sequence[str] | None = None, *, replica_dims: int = 0) -> list[dict[str, Any]]:
    """Parameter groups cut in two: those with `rule` "muon", the hidden matrices, and those with "adamw", the rest.

    The rest has fewer than two dimensions, a declared role (`parameter.stepwell_role`), or a name that a pattern covers.

    Args:
        groups: what a torch optimizer takes: parameters, (name, parameter) pairs, or groups, with "names" as the engine's.
        patterns: whole names, their beginnings or single parts, wildcards allowed; None takes `ENDS`.
        replica_dims: leading dimensions that count replicas, 0 or 1.

    Raises: JobError, a pattern that covers nothing.

    >>> model = torch.nn.ModuleDict({"body": torch.nn.Linear(4, 4), "head": torch.nn.Linear(4, 2)})
    >>> [(group["rule"], group["names"]) for group in muon_groups(model.named_parameters())]
    [('muon', ['body.weight']), ('adamw', ['body.bias', 'head.weight', 'head.bias'])]
    """
    given = list(groups)
    made: list[dict[str, Any]] = []
    named: list[str] = []
    for group in given if given and isinstance(given[0], dict) else [{"params": given}]:
        members = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        names = list(group.get("names", group.get("param_names", [""] * len(members))))
        if members and isinstance(members[0], tuple):
            names, members = [name for name, _ in members], [tensor for _, tensor in members]
        named += names
        settings = {key: value for key, value in group.items() if key not in ("params", "names", "param_names")}
        for rule in ("muon", "adamw"):
            chosen = [pair for pair in zip(names, members, strict=True) if _rule(*pair, patterns, replica_dims) == rule]
            part = {"params": [tensor for _, tensor in chosen], "names": [name for name, _ in chosen]}
            made += [{**settings, **(part if any(names) else {"params": part["params"]}), "rule": rule}] if chosen else []
    for pattern in patterns or ():
        if not any(_covers(pattern, name) for name in named):
            raise JobError(
                f"muon.adamw_patterns has {pattern!r}, which covers no parameter",
                expected="the name of a parameter or of a part of the model",
                fix=nearest(pattern, {part for name in named for part in name.split(".") if part}),
            )
    return made


def _rule(name: str, tensor: Tensor, patterns: Sequence[str] | None, replica_dims: int) -> Literal["muon", "adamw"]:
    words = ENDS if patterns is None else patterns
    hidden = not hasattr(tensor, "stepwell_role") and not any(_covers(word, name) for word in words)
    return "muon" if tensor.ndim - replica_dims >= 2 and hidden else "adamw"


def _covers(pattern: str, name: str) -> bool:
    parts = name.split(".")
    starts = [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
    return any(fnmatchcase(text, pattern) for text in [*parts, *starts])


class MuonOptimizer(Optimizer):
    """The optimizer that the Muon technique makes. State: momentum_buffer; of the AdamW groups step, exp_avg, exp_avg_sq."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            members = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter in members:
                if not self.state[parameter]:
                    self.state[parameter].update(_fresh_state(parameter, group["rule"]))
            update = self._muon if group["rule"] == "muon" else self._adamw
            for indices in _alike(members):
                update(group, [members[index] for index in indices])
        return loss

    def _muon(self, group: dict[str, Any], values: list[Tensor]) -> None:
        gradients = [value.grad for value in values if value.grad is not None]
        buffers = [self.state[value]["momentum_buffer"] for value in values]
        # Nesterov momentum in its averaging form: the buffer is an average of gradients, the update looks one step ahead.
        torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
        updates = _orthogonal(torch._foreach_lerp(gradients, buffers, group["momentum"]), group)
        torch._foreach_mul_(values, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(values, updates, alpha=-group["lr"])

    def _adamw(self, group: dict[str, Any], values: list[Tensor]) -> None:
        gradients = [value.grad for value in values if value.grad is not None]
        means, squares, steps = ([self.state[value][name] for value in values] for name in ("exp_avg", "exp_avg_sq", "step"))
        torch._foreach_add_(steps, 1)
        lr, decay = group["lr"] * group["adamw_factor"], group["weight_decay"]
        betas, eps = group["adamw_betas"], group["eps"]
        adam_kernel_(values, gradients, means, squares, steps, lr=lr, betas=betas, eps=eps, weight_decay=decay, decay="decoupled")


def _fresh_state(parameter: Tensor, rule: str) -> dict[str, Tensor]:
    if rule == "muon":
        return {"momentum_buffer": torch.zeros_like(parameter)}
    step = torch.zeros((), dtype=torch.float32, device=parameter.device)
    return {"step": step, "exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}


def _orthogonal(updates: Sequence[Tensor], group: dict[str, Any]) -> list[Tensor]:
    """The updates orthogonalised and scaled; those of one shape in one batch of matrices."""
    made = list(updates)
    matrices = [update.flatten(group["replica_dims"] + 1) for update in updates]
    stacks = [matrix.reshape(-1, *matrix.shape[-2:]) for matrix in matrices]
    for indices in _alike(stacks, dims=2):
        whole = orthogonalized(torch.cat([stacks[index] for index in indices]), num_iterations=group["num_iterations"])
        whole = whole * _scale(whole.shape[-2], whole.shape[-1], group["scaling"])
        parts = torch.split(whole, [len(stacks[index]) for index in indices])
        for index, part in zip(indices, parts, strict=True):
            made[index] = part.reshape(updates[index].shape)
    return made


def _alike(tensors: Sequence[Tensor], *, dims: int = 0) -> list[list[int]]:
    """Indices of the tensors of one dtype, one device and the same last `dims` sizes, in order."""
    kinds: dict[Any, list[int]] = {}
    for index, tensor in enumerate(tensors):
        kinds.setdefault((tensor.dtype, tensor.device, tensor.shape[tensor.ndim - dims :]), []).append(index)
    return list(kinds.values())


def _scale(rows: int, columns: int, scaling: Scaling) -> float:
    return 0.2 * math.sqrt(max(rows, columns)) if scaling == "match_rms_adamw" else math.sqrt(max(1.0, rows / columns))


@technique(
    id="muon",
    slot="optimizer",
    role="base",
    paper="Jordan et al. 2024, kellerjordan.github.io/posts/muon; Liu et al. 2025, arXiv:2502.16982",
    provides=("momentum", "decoupled_decay", "adaptive"),
    search={"lr": (1e-4, 1e-2, "log"), "weight_decay": (1e-3, 0.3, "log")},
)
class Muon:
    """Orthogonalised momentum for hidden matrices, AdamW for embeddings, heads, biases and norms.

    What: Nesterov momentum, then `orthogonalized` (a kernel (out, in, ...) as the matrix (out, in * ...)), times `scaling`
    and the rate; see `muon_groups` for which tensor goes where. Why: every direction of a matrix moves alike, and models,
    transformers above all, train in fewer steps than with AdamW, with half of its state for matrices. When not: small
    tables, and models whose matrices are mostly embeddings; each step costs some matrix products more.

    Args:
        lr: peak learning rate of all groups, >= 0. With "match_rms_adamw" an AdamW rate fits; "original" wants about 0.02.
        momentum: in [0, 1).
        weight_decay: >= 0, multiplied by the learning rate, in both rules.
        scaling: "match_rms_adamw" is 0.2 sqrt(max(rows, columns)), updates the size of AdamW's; "original" is
            sqrt(max(1, rows / columns)).
        num_iterations: of Newton-Schulz, an int in [1, 20].
        adamw_patterns: names, or parts of names, of embeddings and output layers, left to AdamW; None takes the usual words
            (*embed*, wte, wpe, head, *_head, classifier, fc, ...). In a plain nn.Sequential give the head's number.
        adamw_factor: rate of the AdamW groups as a multiple of lr, finite and > 0.
        adamw_betas: decay of AdamW's moments, each in [0, 1).
        eps: of AdamW, added outside the square root, > 0.
        replica_dims: leading dimensions of every tensor that count replicas, 0 or 1.

    Raises: JobError, a value outside its range or a pattern that covers nothing.

    Paper: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024, kellerjordan.github.io/posts/muon;
    scaling: Liu et al., "Muon is Scalable for LLM Training", 2025, arXiv:2502.16982.

    >>> layer = torch.nn.Linear(2, 1)
    >>> optimizer = Muon(layer.named_parameters(), lr=1e-3)
    >>> layer(torch.ones(1, 2)).sum().backward(); optimizer.step()
    """

    lr: float = 1e-3
    momentum: float = 0.95
    weight_decay: float = 0.1
    scaling: Scaling = "match_rms_adamw"
    num_iterations: int = 5
    adamw_patterns: tuple[str, ...] | None = None
    adamw_factor: float = 1.0
    adamw_betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    replica_dims: int = 0

    def __post_init__(self) -> None:
        require(self.lr >= 0, "muon.lr", self.lr, "a number of at least 0", "Try 1e-3")
        require_between("muon.momentum", self.momentum, 0, 1, "Try 0.95", ends="[)")
        decay = self.weight_decay
        require(decay >= 0, "muon.weight_decay", decay, "a number of at least 0", "Try 0.1, or 0 for none")
        require_one_of("muon.scaling", self.scaling, ("match_rms_adamw", "original"))
        whole = isinstance(self.num_iterations, int) and 1 <= self.num_iterations <= 20
        require(whole, "muon.num_iterations", self.num_iterations, "a whole number in [1, 20]", "Try 5")
        names = self.adamw_patterns
        good = names is None or (isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names))
        require(good, "muon.adamw_patterns", names, "a list of names", 'Write e.g. ["embedding", "head"]')
        factor = self.adamw_factor
        require(0 < factor < math.inf, "muon.adamw_factor", factor, "a finite number above 0", "Try 1")
        for beta in self.adamw_betas:
            require_between("muon.adamw_betas", beta, 0, 1, "Try [0.9, 0.95]", ends="[)")
        require(self.eps > 0, "muon.eps", self.eps, "a number above 0", "Try 1e-8")
        require(self.replica_dims in (0, 1), "muon.replica_dims", self.replica_dims, "0 or 1", "Write 0")

    def __call__(self, groups: Any) -> Optimizer:
        own = ("lr", "momentum", "weight_decay", "scaling", "num_iterations", "adamw_factor", "eps", "replica_dims")
        # "fused" makes torch put loaded step counters where their parameters are.
        defaults = {name: getattr(self, name) for name in own} | {"adamw_betas": tuple(self.adamw_betas), "fused": True}
        cut = muon_groups(groups, self.adamw_patterns, replica_dims=self.replica_dims)
        return MuonOptimizer(cut, defaults)
