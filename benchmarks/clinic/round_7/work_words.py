"""Language that fails: tags of words, moods of comments, the next word."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.round_7.work_parts import Rows, cut, job, moods, patient, seeded, sentences
from benchmarks.clinic.round_7.work_readers import Attender, Causal, GruTagger, next_words, per_word


def _per_word_sum(scores: Tensor, tags: Tensor) -> Tensor:
    return nn.functional.cross_entropy(scores.flatten(0, 1), tags.flatten(), reduction="sum")


def _tags(seed: int, model: nn.Module | None = None, **changes: Any) -> Setup:
    with seeded(seed):
        model = model or GruTagger()
    setup = patient(model, cut(*sentences(seed), 500), per_word, {"name": "adam", "lr": 5e-3}, 32, 12)
    return {**setup, **changes}


def _added_up(seed: int) -> Setup:
    return _tags(seed, loss=_per_word_sum, optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.9})


class _LostDim(GruTagger):
    """nn.Softmax() without a dim: of three axes it takes the first, the batch."""

    def __init__(self, ending: str = "softmax") -> None:
        super().__init__()
        self.ending = ending

    def forward(self, words: Tensor) -> Tensor:
        scores = super().forward(words)
        return scores.softmax(0) if self.ending == "softmax" else scores


def _over_the_batch(seed: int) -> Setup:
    with seeded(seed):
        return _tags(seed, _LostDim())


def _bare_scores(setup: Setup) -> Setup:
    setup["model"].ending = "scores"
    return setup


def _sentences_second(seed: int) -> Setup:
    with seeded(seed):
        return _tags(seed, Attender(batch_first=False), epochs=20, optimizer={"name": "adam", "lr": 3e-3})


def _sentences_first(setup: Setup) -> Setup:
    for layer in setup["model"].layers:
        layer.self_attn.batch_first = True
    return setup


def _full_rate_at_once(seed: int) -> Setup:
    with seeded(seed):
        return _tags(seed, Attender(batch_first=True, layers=3), epochs=15, optimizer={"name": "adam", "lr": 0.03})


class _Windows(nn.Module):
    """A table by name and convolutions over two and three words, each with its mean answer."""

    def __init__(self, by_name: Any = dict, in_order: Any = list) -> None:
        super().__init__()
        self.tables = by_name({"words": nn.Embedding(40, 12)})
        self.windows = in_order([nn.Conv1d(12, 4, size) for size in (2, 3)])
        self.head = nn.Linear(8, 1)

    def forward(self, comment: Tensor) -> Tensor:
        states = self.tables["words"](comment).transpose(1, 2)
        found = [torch.relu(window(states)).mean(2) for window in self.windows]
        mood: Tensor = self.head(torch.cat(found, 1)).squeeze(1)
        return mood


def _moods(seed: int, model: nn.Module) -> Setup:
    return patient(model, cut(*moods(seed), 1000), nn.BCEWithLogitsLoss(), {"name": "adam", "lr": 5e-3}, 50, 15)


def _windows_in_a_list(seed: int) -> Setup:
    with seeded(seed):
        return _moods(seed, _Windows())


def _windows_registered(setup: Setup) -> Setup:
    with seeded(6):
        return {**setup, "model": _Windows(nn.ModuleDict, nn.ModuleList)}


class _Cached(nn.Module):
    """A reader whose last state is taken out of the graph, as if it were a pretrained one."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.reader = nn.Embedding(40, 8), nn.LSTM(8, 12, batch_first=True)
        self.head, self.keep = nn.Linear(12, 1), "values"

    def forward(self, comment: Tensor) -> Tensor:
        state = self.reader(self.words(comment))[0][:, -1]
        state = torch.from_numpy(state.detach().numpy().copy()) if self.keep == "values" else state
        mood: Tensor = self.head(state).squeeze(1)
        return mood


def _through_numpy(seed: int) -> Setup:
    with seeded(seed):
        return {**_moods(seed, _Cached()), "epochs": 20}


def _with_graph(setup: Setup) -> Setup:
    setup["model"].keep = "graph"
    return setup


class _Follower(nn.Module):
    """The next word from the last one alone."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(40, 12)
        self.body = nn.Sequential(nn.Linear(12, 48), nn.Tanh(), nn.Linear(48, 40))

    def forward(self, words: Tensor) -> Tensor:
        scores: Tensor = self.body(self.words(words))
        return scores


def _alike(seed: int) -> Setup:
    with seeded(seed):
        model = _Follower()
    for layer in (model.body[0], model.body[2]):
        nn.init.constant_(layer.weight, 0.05)  # type: ignore[arg-type]
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return patient(model, cut(*next_words(seed), 450), per_word, {"name": "adam", "lr": 0.01}, 32, 12)


def _apart(setup: Setup) -> Setup:
    with seeded(5):
        setup["model"].body[0].reset_parameters()
        setup["model"].body[2].reset_parameters()
    return setup


def _chances_of_words(seed: int) -> Setup:
    with seeded(seed):
        model = Causal("softmax")
    return patient(model, cut(*next_words(seed), 450), per_word, {"name": "sgd", "lr": 0.1, "momentum": 0.9}, 32, 12)


def _scores_of_words(setup: Setup) -> Setup:
    setup["model"].ending = "scores"
    return setup


def _padded_with_minus_one(seed: int) -> Setup:
    words, tags = sentences(seed)
    words[:500:2, 8:], tags[:500:2, 8:] = 0, -1
    return _tags(seed, train=Rows(words[:500], tags[:500]))


def _minus_one_ignored(setup: Setup) -> Setup:
    def loss(scores: Tensor, tags: Tensor) -> Tensor:
        return nn.functional.cross_entropy(scores.flatten(0, 1), tags.flatten(), ignore_index=-1)

    return {**setup, "loss": loss}


def _case(
    name: str, build: Any, accept: tuple[str, ...], source: str, tolerate: tuple[str, ...], fix: Any, architecture: Any = "rnn"
) -> Case:
    return Case(name, build, accept, "accuracy", source, architecture, "sequence", tolerate, fix)


_SUM_SOURCE = "entropies of 320 words a batch are added up (reduction='sum' of a language model's script) at the rate of a mean"
_PLACES_SOURCE = "'Implicit dimension choice for softmax has been deprecated': of [N, length, tags] it takes the first"
_BATCH_SOURCE = "GitHub om-ai-lab/OmDet#19: attention layers take the length first by default and got rows first"
_WARM_SOURCE = "GitHub pytorch/pytorch#55270: post-norm encoder layers at a full rate from the first step"
_ALIKE_SOURCE = "nn.init.constant_ over all parameters but the table, 'so that runs can be compared': all units stay the same"
_LIST_SOURCE = "the table in a dict and the convolutions in a list: parameters() knows neither"
_NUMPY_SOURCE = "states are taken to numpy and back between reader and head"
_TWICE_SOURCE = "softmax at the end of the model and cross-entropy over 40 words after it"
_PAD_SOURCE = "padding labelled -1 where the loss ignores -100 only: 'Target -1 is out of bounds'"

CASES: tuple[Case, ...] = (
    _case(
        "sentences-entropies-added-up", _added_up, ("loss_reduction_sum",), _SUM_SOURCE,
        ("lr_too_high", "exploding_gradient", "saturated_activation"), job(loss=per_word),
    ),
    _case(
        "sentences-softmax-without-a-dim", _over_the_batch, ("softmax_wrong_dim", "softmax_before_ce"), _PLACES_SOURCE,
        ("batch_dependence",), _bare_scores,
    ),
    _case(
        "sentences-attended-across-the-batch", _sentences_second, ("batch_dependence",), _BATCH_SOURCE,
        ("overfitting",), _sentences_first, "transformer",
    ),
    _case(
        "sentences-three-layers-at-full-rate", _full_rate_at_once, ("warmup_too_short", "lr_too_high"), _WARM_SOURCE,
        ("exploding_gradient", "unstable_gradient"), job(optimizer={"name": "adam", "lr": 5e-3}), "transformer",
    ),
    _case(
        "next-word-all-constants-alike", _alike, ("symmetric_init",), _ALIKE_SOURCE, (), _apart, "mlp",
    ),
    _case(
        "comments-tables-by-name-windows-in-a-list", _windows_in_a_list, ("unregistered_params",), _LIST_SOURCE,
        ("params_not_in_optimizer", "underfitting", "capacity_too_small"), _windows_registered, "cnn",
    ),
    _case(
        "comments-states-through-numpy", _through_numpy, ("detached_graph",), _NUMPY_SOURCE,
        ("underfitting", "frozen_params"), _with_graph,
    ),
    _case(
        "next-word-softmax-before-entropy", _chances_of_words, ("softmax_before_ce",), _TWICE_SOURCE,
        ("lr_too_low", "too_few_epochs"), _scores_of_words, "transformer",
    ),
    _case(
        "sentences-padded-with-minus-one", _padded_with_minus_one, ("label_out_of_range",), _PAD_SOURCE,
        ("wrong_num_outputs",), _minus_one_ignored,
    ),
)  # fmt: skip
