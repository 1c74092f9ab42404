"""Training as scikit-learn estimators: `Classifier` and `Regressor` fit where scikit-learn's own do."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from numbers import Integral
from typing import Any, Literal, final

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
from torch import Tensor, nn

from stepwell.core.check import require
from stepwell.core.errors import DataError, JobError, StepwellError
from stepwell.core.randomness import derive, seeded_defaults
from stepwell.core.signature import InputKind, Signature
from stepwell.core.slots import call_model
from stepwell.data.examples import TensorExamples
from stepwell.engine.evaluate import evaluating
from stepwell.models.registry import build
from stepwell.recipe.fit import fit
from stepwell.recipe.job import Recipe

__all__ = ["Classifier", "Regressor"]

FLOATS = [np.float64, np.float32]
KINDS: dict[int, InputKind] = {2: "vector", 3: "series", 4: "image"}
# Over which axes a feature is averaged: a column, a column of a series, a channel of an image.
AXES = {2: (0,), 3: (0, 1), 4: (0, 2, 3)}
PREDICTION_BATCH = 1024

# For `sklearn.utils.estimator_checks`: what both estimators can't promise, and why.
EXPECTED_FAILED_CHECKS = {
    "check_sample_weight_equivalence_on_dense_data": (
        "a row of weight 2 and the same row twice are the same loss but not the same mini-batches, and rounding in "
        "float32 exceeds the check's tolerance of 1e-7; with batch_size 'full' and a float64 model they agree"
    ),
}


class _Network(BaseEstimator, ABC):  # type: ignore[misc]
    """What both estimators share. scikit-learn reads the settings from the constructor and their values from attributes."""

    def __init__(
        self,
        model: Any = None,
        *,
        recipe: Any = None,
        budget: str = "60 epochs",
        validation_fraction: float | None = None,
        scaling: Literal["auto", "standard", "none"] = "auto",
        device: str = "auto",
        random_state: Any = 0,
    ) -> None:
        self.model = model
        self.recipe = recipe
        self.budget = budget
        self.validation_fraction = validation_fraction
        self.scaling = scaling
        self.device = device
        self.random_state = random_state

    @property
    def _own(self) -> bool:
        return not (self.model is None or isinstance(self.model, (str, Mapping)))

    @property
    def _scaled(self) -> bool:
        options = ("auto", "standard", "none")
        require(self.scaling in options, "scaling", self.scaling, "auto, standard or none", "Leave it out for auto")
        return self.scaling == "standard" or (self.scaling == "auto" and not self._own)

    def _train(self, X: Any, targets: Any, weights: Any, *, num_outputs: int, strata: Any) -> None:
        """Scale, build, train, keep. X is checked, targets are ready for the objective."""
        seed = self._seed()
        if weights is not None:
            # What weighs nothing says nothing: without it the remaining steps are those of data that never had it.
            X, targets, weights = X[weights > 0], targets[weights > 0], weights[weights > 0]
        shape = X.shape[1:]
        self.signature_ = Signature(KINDS[X.ndim], tuple(shape), num_outputs)
        center, scale = _moments(X, weights, AXES[X.ndim]) if self._scaled else (0.0, 1.0)
        self.input_center_, self.input_scale_ = center, scale
        model = self._build(seed)
        dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())
        inputs = self._inputs(X, dtype)
        goal = torch.as_tensor(targets, dtype=dtype if targets.dtype.kind == "f" else torch.int64)
        if _probe(model, inputs, num_outputs, single=goal.is_floating_point()) == 1 and goal.ndim == 2:
            goal = goal[:, 0]
        share = None if weights is None else torch.as_tensor(weights, dtype=dtype)
        train, validation = self._parts(TensorExamples(inputs, goal, share), seed, strata)
        run = fit(
            model,
            train,
            val=validation,
            recipe=_recipe(self.recipe, len(train), validated=validation is not None),
            budget=self.budget,
            seed=seed,
            device=self.device,
        )
        # A copy has tensors of its own: while training they may be views of one buffer, which pickling would repeat.
        self.model_ = copy.deepcopy(run.model)
        self.history_, self.metrics_, self.stop_reason_ = run.history, run.metrics, run.stop_reason

    def _seed(self) -> int:
        if isinstance(self.random_state, Integral):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _build(self, seed: int) -> nn.Module:
        model = self.model
        if isinstance(model, nn.Module):
            return copy.deepcopy(model)
        if not self._own:
            settings = {"name": model or "mlp"} if not isinstance(model, Mapping) else dict(model)
            if "name" not in settings:
                raise JobError("model has no name", expected='{"name": "mlp", ...}', fix="Add the name of a model")
            return build(settings.pop("name"), self.signature_, settings, seed=seed)
        if not callable(model):
            raise JobError(
                f"model is {model!r}",
                expected="a model's name, a mapping with its settings, a torch.nn.Module, or a callable (signature) -> Module",
                fix="Leave it out for an mlp",
            )
        with seeded_defaults(derive(seed, "model")):
            made = model(self.signature_)
        if not isinstance(made, nn.Module):
            raise JobError(f"model gave {type(made).__name__}", expected="a torch.nn.Module", fix="Return the module")
        return made

    def _inputs(self, X: Any, dtype: torch.dtype) -> Tensor:
        return torch.as_tensor((X - self.input_center_) / self.input_scale_, dtype=dtype)

    def _parts(self, whole: TensorExamples, seed: int, strata: Any) -> tuple[TensorExamples, TensorExamples | None]:
        if self.validation_fraction is None:
            return whole, None
        from sklearn.model_selection import train_test_split

        rows = torch.arange(len(whole))
        kept, held = train_test_split(
            rows, test_size=self.validation_fraction, stratify=strata, random_state=derive(seed, "validation") % 2**32
        )
        return whole.select(kept), whole.select(held)

    def _outputs(self, X: Any) -> Any:
        """Raw outputs as a float64 array, (N, num_outputs)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, allow_nd=True, dtype=FLOATS)
        model = self.model_
        parameter = next(model.parameters(), torch.empty(0))
        dtype, device = parameter.dtype, parameter.device
        if not self._own and device.type == "cpu":
            # In float64 a row's answer doesn't depend on the rows beside it: kernels add up in other orders for other
            # shapes, and float32 shows it.
            model, dtype = copy.deepcopy(model).double(), torch.float64
        inputs = self._inputs(X, dtype)
        pieces = torch.split(inputs, PREDICTION_BATCH)  # type: ignore[no-untyped-call]
        with evaluating(model):
            parts = [call_model(model, piece.to(device)).double().cpu() for piece in pieces]
        return torch.cat(parts).reshape(len(inputs), -1)

    @abstractmethod
    def predict(self, X: Any) -> Any:
        """One prediction per row."""


@final
class Classifier(ClassifierMixin, _Network):  # type: ignore[misc]
    """A neural network as a scikit-learn classifier.

    Labels may be of any type that can be sorted. It works in pipelines, cross-validation and grid searches, and can be
    cloned and pickled.

    Args:
        model: None for an mlp, a model's name, a mapping with its settings, a `torch.nn.Module` (its copy is trained on
            from its current weights), or a class or function called with the data's `Signature`. It must give one
            logit per class, (N, K).
        recipe: a `stepwell.Recipe`, or a mapping for one; None for AdamW with one cycle of 3e-3 and clipping at 1.
        budget: how long to train, e.g. "60 epochs" or "500 steps".
        validation_fraction: share of the rows in (0, 1) held back, stratified, to watch; the default recipe then stops
            early and restores the best weights. None trains on all rows.
        scaling: "standard" subtracts each column's mean and divides by its standard deviation, both of the training
            rows; "none" doesn't; "auto" scales for ready models and leaves inputs as they are for your own.
        device: auto, cpu, cuda or mps.
        random_state: seed of every draw, a `numpy.random.RandomState`, or None for numpy's global one.

    Attributes:
        classes_: labels in sorted order, (K,). model_: the trained module. history_, metrics_, stop_reason_: of the run.

    Raises:
        DataError: one class only, or weights that can't be used.
        JobError: a model, recipe or setting that doesn't fit.

    >>> from sklearn.datasets import load_iris
    >>> x, y = load_iris(return_X_y=True)
    >>> Classifier(budget="20 epochs").fit(x, y).score(x, y) > 0.9
    True
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Classifier:
        """Train.

        Args:
            X: numbers, (N, D) array or frame; (N, T, D) series and (N, C, H, W) images where the model takes them.
            y: one label per row, (N,).
            sample_weight: one non-negative weight per row, (N,).
        """
        X, y = validate_data(self, X, y, allow_nd=True, dtype=FLOATS, ensure_min_samples=2)
        check_classification_targets(y)
        y = column_or_1d(y, warn=True)
        weights = _weights(sample_weight, len(y))
        self.classes_, codes = np.unique(y, return_inverse=True)
        present = codes if weights is None else codes[weights > 0]
        if len(np.unique(present)) < 2:
            raise DataError(
                f"y holds 1 class, {self.classes_.tolist()[present[0]]!r}",
                expected="rows of at least two classes with a weight above 0",
                fix="Check how y is made",
            )
        self._train(X, codes.astype(np.int64), weights, num_outputs=len(self.classes_), strata=present)
        return self

    def predict_proba(self, X: Any) -> Any:
        """Probabilities, (N, K), in the order of `classes_`."""
        return torch.softmax(self._outputs(X), dim=1).numpy()

    def predict(self, X: Any) -> Any:
        """The most probable label of each row, (N,)."""
        outputs = self._outputs(X)
        return self.classes_[outputs.argmax(dim=1).numpy()]


@final
class Regressor(RegressorMixin, _Network):  # type: ignore[misc]
    """A neural network as a scikit-learn regressor, for one target or several.

    Args:
        model, recipe, budget, validation_fraction, device, random_state: as for `Classifier`; the model gives one
            number per target, (N, K), and rows are held back without strata.
        scaling: as for `Classifier`, and for the targets too: they are standardised for training, and predictions are
            turned back.

    Attributes:
        model_: the trained module. history_, metrics_, stop_reason_: of the run, in units of the scaled target.

    Raises:
        DataError: weights that can't be used.
        JobError: a model, recipe or setting that doesn't fit.

    >>> from sklearn.datasets import load_diabetes
    >>> x, y = load_diabetes(return_X_y=True)
    >>> Regressor(budget="10 epochs").fit(x, y).score(x, y) > 0.4
    True
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Regressor:
        """Train.

        Args:
            X: numbers, (N, D) array or frame; (N, T, D) series and (N, C, H, W) images where the model takes them.
            y: numbers, (N,) or (N, K).
            sample_weight: one non-negative weight per row, (N,).
        """
        X, y = validate_data(self, X, y, allow_nd=True, dtype=FLOATS, ensure_min_samples=2, multi_output=True, y_numeric=True)
        weights = _weights(sample_weight, len(y))
        targets = np.asarray(y, dtype=np.float64).reshape(len(y), -1)
        self._single = y.ndim == 1
        center, scale = _moments(targets, weights, (0,)) if self._scaled else (0.0, 1.0)
        self.target_center_, self.target_scale_ = center, scale
        scaled = (targets - center) / scale
        self._train(X, scaled, weights, num_outputs=targets.shape[1], strata=None)
        return self

    def predict(self, X: Any) -> Any:
        """Predicted targets, (N,) or (N, K) as they were given."""
        values = self._outputs(X).numpy() * self.target_scale_ + self.target_center_
        return values[:, 0] if self._single else values


def _recipe(given: Any, num_samples: int, *, validated: bool) -> Recipe:
    if isinstance(given, Recipe):
        return given
    if given is not None:
        return Recipe.from_mapping(given)
    techniques: list[dict[str, Any]] = [{"name": "clip_norm", "max_norm": 1.0}]
    if validated:
        techniques.append({"name": "early_stopping"})
    return Recipe(
        optimizer={"name": "adamw", "lr": 3e-3, "weight_decay": 0.01},
        schedule={"name": "one_cycle"},
        techniques=tuple(techniques),
        # Small data get small batches: about eight steps an epoch, so that 60 epochs are some hundreds of steps.
        batch_size=min(num_samples, 64, max(8, num_samples // 8)),
    )


def _moments(values: Any, weights: Any, axes: tuple[int, ...]) -> tuple[Any, Any]:
    """Mean and standard deviation of each feature over the training rows, shaped to broadcast; constant features get 1."""
    share = None if weights is None else np.broadcast_to(weights.reshape(-1, *(1,) * (values.ndim - 1)), values.shape)
    center = np.average(values, axis=axes, weights=share, keepdims=True)
    spread = np.sqrt(np.average((values - center) ** 2, axis=axes, weights=share, keepdims=True))
    # Rounding leaves a constant column a spread of about its value times 1e-16: that is no signal to blow up.
    constant = spread <= 1e-12 * np.maximum(np.abs(center), 1e-300)
    return center[0], np.where(constant, 1.0, spread)[0]


def _weights(value: Any, num_samples: int) -> Any:
    if value is None:
        return None
    weights = np.asarray(value, dtype=np.float64)
    problem = None
    if weights.shape != (num_samples,):
        problem = f"sample_weight has shape {weights.shape} for {num_samples} rows"
    elif not np.isfinite(weights).all() or (weights < 0).any():
        problem = "sample_weight holds NaN, infinite or negative numbers"
    elif not weights.any():
        problem = "every sample_weight is zero"
    if problem is not None:
        raise DataError(
            problem, expected="one finite weight >= 0 per row, some above 0", fix="Mend the weights, or leave them out"
        )
    return weights


def _probe(model: nn.Module, inputs: Tensor, num_outputs: int, *, single: bool) -> int:
    """Number of dimensions of the model's outputs, once their shape is known to fit. Asked before any training."""
    try:
        with evaluating(model):
            outputs = call_model(model, inputs[:2])
    except StepwellError:
        raise
    except Exception as error:
        raise JobError(
            f"the model can't take inputs of shape {tuple(inputs[:2].shape)}: {type(error).__name__}: {error}",
            expected="a model that fits the columns of X",
            fix="Build it from the data: give a function (signature) -> Module instead of a module",
        ) from error
    shapes = [(len(inputs[:2]), num_outputs)] + ([(len(inputs[:2]),)] if single and num_outputs == 1 else [])
    shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    if shape not in shapes:
        raise JobError(
            f"the model gives outputs of shape {shape} for 2 rows",
            expected=f"{shapes[0]}: one {'number per target' if single else 'logit per class'}",
            fix="Change its last layer, or give a function (signature) -> Module that uses signature.num_outputs",
        )
    return len(shape)
