"""Every kind of target through every verb: train, evaluate, predict, explain, check, resume; and through fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import stepwell
from stepwell.core.errors import DataError, JobError
from stepwell.recipe.files import dump, read_job
from stepwell.recipe.tasks import infer_task, metric_names, task_of
from stepwell.techniques import MultiTask

RECIPE: dict[str, Any] = {"optimizer": {"name": "adamw", "lr": 1e-2}, "batch_size": 8}


def segmentation(place: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (place / "set" / name).mkdir(parents=True)
    for number in range(20):
        mask = np.zeros((9, 10), np.uint8)
        row, column = rng.integers(0, 5, 2)
        mask[row : row + 4, column : column + 4] = 255
        image = (rng.integers(0, 60, (9, 10)) + mask * 0.7).astype(np.uint8)
        Image.fromarray(image).save(place / "set" / "images" / f"{number}.png")
        Image.fromarray(mask).save(place / "set" / "masks" / f"{number}.png")
    data = {"source": "segmentation", "path": "set", "channels": 1}
    return {"data": data, "model": {"name": "segmenter", "channels": [4, 8]}, "budget": "12 epochs"}


def pairs(place: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    same = np.arange(80) % 2
    left = rng.normal(size=(80, 3))
    right = np.where(same[:, None] == 1, left + 0.05 * rng.normal(size=(80, 3)), -left)
    np.savez(place / "p.npz", left=left, right=right, same=same, inputs=left)
    return {"data": {"source": "pairs", "path": "p.npz", "embedding": 2}, "model": {"name": "mlp", "hidden": [8]}}


def triplets(place: Path) -> dict[str, Any]:
    data = {"source": "triplets_of", "data": {"source": "iris"}, "num_triplets": 60, "embedding": 2}
    return {"data": data, "model": {"name": "mlp", "hidden": [8]}}


def table(place: Path) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=60), "b": rng.normal(size=60), "w": rng.random(60)})
    frame["kind"] = np.array(["x", "y", "z"])[(frame["a"] > 0).astype(int) + (frame["b"] > 0)]
    frame["sold"] = np.where(frame["a"] > frame["b"], "yes", "no")
    frame["price"] = 3 * frame["a"] + 100
    frame.to_csv(place / "t.csv", index=False)
    return frame


def multi_task(place: Path) -> dict[str, Any]:
    table(place)
    data = {"source": "table", "path": "t.csv", "target": ["kind", "sold", "price"], "weights": "w"}
    return {"data": data, "model": {"name": "multi_head", "hidden": [8]}}


def documents(place: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    words = {"pos": ["good", "nice", "film", "the"], "neg": ["bad", "awful", "film", "the"]}
    rows = [{"text": " ".join(rng.choice(words[k], 6)), "target": k} for k in ("pos", "neg") * 30]
    (place / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"data": {"source": "documents", "path": "d.jsonl", "length": 8}, "model": {"name": "bag_of_words", "width": 8}}


# task -> what writes its data and says its job, the metric that must be good, and how good.
KINDS: dict[str, tuple[Any, str, float]] = {
    "segmentation": (segmentation, "mean_iou", 0.8),
    "pairs": (pairs, "pair_auc", 0.9),
    "triplets": (triplets, "triplet_accuracy", 0.8),
    "multi_task": (multi_task, "sold.accuracy", 0.7),
    "binary": (documents, "accuracy", 0.9),
}


def job_of(task: str, place: Path, **changed: Any) -> stepwell.Job:
    given = {"task": task, "recipe": RECIPE, "budget": "10 epochs", "seed": 0} | KINDS[task][0](place) | changed
    return stepwell.Job.from_mapping(given)


@pytest.mark.parametrize("task", KINDS)
def test_a_job_trains_evaluates_explains_and_is_found_again_as_it_was_written(task: str, tmp_path: Path) -> None:
    job = job_of(task, tmp_path)
    (tmp_path / "job.yaml").write_text(dump(job.to_mapping()))
    assert read_job(tmp_path / "job.yaml") == job
    assert hash(job) == hash(read_job(tmp_path / "job.yaml"))
    run = stepwell.train(job, out=tmp_path / "run", base=tmp_path)
    _, metric, good = KINDS[task]
    assert run.metrics[metric] >= good
    assert stepwell.evaluate(tmp_path / "run").metrics == run.test_metrics
    assert stepwell.check(job, base=tmp_path).ok
    assert "each of" in stepwell.explain(job, base=tmp_path).text


@pytest.mark.parametrize("task", KINDS)
def test_a_run_that_was_stopped_goes_on_to_the_bits_of_the_whole_one(task: str, tmp_path: Path) -> None:
    job = job_of(task, tmp_path, budget="5 steps", checkpoint_every="2 steps")
    stepwell.train(job, out=tmp_path / "whole", base=tmp_path)
    stepwell.train(job.replace_at("budget", "3 steps"), out=tmp_path / "part", base=tmp_path)
    assert stepwell.resume(tmp_path / "part", budget="5 steps").steps == 5
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "part"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("sampling", ["balanced", "weighted"])
def test_sampled_data_resumes_to_the_bits_too(sampling: str, tmp_path: Path) -> None:
    table(tmp_path)
    data = {"source": "table", "path": "t.csv", "target": "sold", "drop": ["kind", "price"], "weights": "w", "sampling": sampling}
    job = stepwell.Job.from_mapping(
        {"data": data, "model": "mlp", "task": "binary", "recipe": RECIPE, "budget": "12 steps", "checkpoint_every": "3 steps"}
    )
    stepwell.train(job, out=tmp_path / "whole", base=tmp_path)
    stepwell.train(job.replace_at("budget", "7 steps"), out=tmp_path / "part", base=tmp_path)
    stepwell.resume(tmp_path / "part", budget="12 steps")
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "part"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    once = stepwell.train(job.replace_at("data.sampling", "once"), base=tmp_path)
    assert not all(torch.equal(one[name], tensor) for name, tensor in once.model.state_dict().items())


def test_predictions_are_masks_distances_embeddings_and_columns_by_task(tmp_path: Path) -> None:
    def trained(task: str) -> Path:
        folder = tmp_path / task
        folder.mkdir()
        stepwell.train(job_of(task, folder), out=folder / "run", base=folder)
        return folder

    place = trained("segmentation")
    shares = stepwell.predict(place / "run", place / "set", out=place / "masks.npz")
    masks = np.load(place / "masks.npz")["masks"]
    assert masks.shape == (20, 9, 10)
    assert set(np.unique(masks)) == {0, 255}
    np.testing.assert_allclose(shares["share_255"], (masks == 255).mean(axis=(1, 2)))
    stepwell.predict(place / "run", place / "set" / "images", out=place / "shares.csv")
    assert pd.read_csv(place / "shares.csv").columns.tolist() == ["share_0", "share_255"]

    place = trained("pairs")
    distance = stepwell.predict(place / "run", place / "p.npz")["distance"]
    assert distance[1::2].mean() < distance[::2].mean()
    np.savez(place / "single.npz", inputs=np.load(place / "p.npz")["left"])
    found = stepwell.predict(place / "run", place / "single.npz", out=place / "e.csv")
    assert found.columns.tolist() == ["embedding_0", "embedding_1"]
    with pytest.raises(JobError, match=r"e.npz ends in .npz, but these predictions are columns"):
        stepwell.predict(place / "run", place / "single.npz", out=place / "e.npz")
    assert stepwell.evaluate(place / "run", data=place / "p.npz").metrics["pair_auc"] > 0.9

    place = trained("multi_task")
    columns = stepwell.predict(place / "run", place / "t.csv")
    assert set(columns["sold.prediction"]) == {"yes", "no"}
    assert abs(columns["price.prediction"].mean() - 100) < 5


def test_the_loss_of_an_evaluation_weighs_samples_as_training_does(tmp_path: Path) -> None:
    frame = table(tmp_path)
    data = {"source": "table", "path": "t.csv", "target": "price", "features": ["a", "b"], "weights": "w"}
    split = {"by": "time", "validation": 0.2, "test": 0.0}
    job = {"data": data, "split": split, "model": {"name": "mlp", "hidden": []}, "task": "regression", "recipe": RECIPE}
    run = stepwell.train(stepwell.Job.from_mapping(job | {"budget": "1 epochs"}), base=tmp_path)
    train, held = frame.iloc[:48], frame.iloc[48:]
    inputs = (held[["a", "b"]] - train[["a", "b"]].mean()) / train[["a", "b"]].std(ddof=0)
    with torch.no_grad():
        outputs = run.model(torch.tensor(inputs.to_numpy(), dtype=torch.float32)).squeeze(1).numpy()
    spread = train["price"].std(ddof=0)
    errors = outputs - (held["price"] - train["price"].mean()) / spread
    weights = held["w"].astype("float32")
    assert run.metrics["loss"] == pytest.approx((weights * errors**2).sum() / weights.sum(), rel=1e-4)
    assert run.metrics["mae"] == pytest.approx((weights * errors.abs()).sum() / weights.sum() * spread, rel=1e-4)


def test_fit_tells_the_task_by_targets_and_objective_and_measures_what_belongs_to_it() -> None:
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(12, 1, 6, 6, generator=draw)
    masks = (images[:, 0] > 0).long()
    quick = {"budget": "1 epochs", "seed": 0}
    net = nn.Conv2d(1, 1, 3, padding=1)
    recipe = stepwell.Recipe(objective="bce_dice", optimizer="sgd", batch_size=4)
    run = stepwell.fit(net, (images, masks), val=(images, masks), recipe=recipe, **quick)
    assert run.task == task_of("segmentation")
    assert set(run.metrics) == {"loss", "pixel_accuracy", "mean_iou", "dice"}

    vectors = torch.randn(12, 4, generator=draw)
    recipe = stepwell.Recipe(objective="triplet", optimizer="sgd", batch_size=4)
    groups = ((vectors, vectors + 0.1, -vectors), torch.zeros(12))
    run = stepwell.fit(nn.Linear(4, 2), groups, val=groups, recipe=recipe, **quick)
    assert set(run.metrics) == {"loss", "triplet_accuracy"}

    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.size, self.sold = nn.Linear(4, 1), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"size": self.size(x).squeeze(1), "sold": self.sold(x)}

    both = (vectors, {"size": vectors.sum(1), "sold": torch.arange(12) % 3})
    tasks = {"size": "mse", "sold": "cross_entropy"}
    recipe = stepwell.Recipe(objective={"name": "multi_task", "tasks": tasks}, optimizer="sgd", batch_size=4)
    run = stepwell.fit(Heads(), both, val=both, recipe=recipe, **quick)
    assert set(run.metrics) == {"loss", "size.mae", "size.rmse", "size.r2", "sold.accuracy"}


def test_an_average_re_estimates_batch_norm_of_a_model_that_embeds_one_element(tmp_path: Path) -> None:
    triplets(tmp_path)
    recipe = RECIPE | {"techniques": [{"name": "swa", "start": "20%"}]}
    job = job_of("triplets", tmp_path, model={"name": "mlp", "hidden": [8], "norm": "batch"}, recipe=recipe)
    assert stepwell.train(job, base=tmp_path).metrics["triplet_accuracy"] > 0.6


@pytest.mark.parametrize(
    ("task", "objective", "fits"),
    [
        ("segmentation", "dice", True),
        ("segmentation", "cross_entropy", False),
        ("segmentation", "mse", False),
        ("pairs", "triplet", False),
        ("triplets", "mse", False),
        ("binary", "contrastive", False),
        ("regression", {"name": "multi_task", "tasks": {"a": "mse"}}, False),
    ],
)
def test_an_objective_that_can_not_read_a_task_s_batches_is_refused(task: str, objective: Any, fits: bool) -> None:
    from stepwell.recipe.compatibility import check_recipe

    recipe = stepwell.Recipe(objective=objective, optimizer="sgd")
    if fits:
        check_recipe(recipe, task=task)
        return
    with pytest.raises(JobError, match=rf"doesn't fit the task {task}"):
        check_recipe(recipe, task=task)


def test_a_table_s_task_without_classes_can_not_be_balanced(tmp_path: Path) -> None:
    table(tmp_path)
    data = {"source": "table", "path": "t.csv", "target": "price", "features": ["a"], "sampling": "balanced"}
    job = {"data": data, "model": "mlp", "task": "regression", "recipe": RECIPE, "budget": "1 epochs"}
    with pytest.raises(DataError, match="sampling is balanced but the targets are not one class per example"):
        stepwell.train(stepwell.Job.from_mapping(job), base=tmp_path)


def test_a_source_inside_a_source_is_checked_at_its_line(tmp_path: Path) -> None:
    text = dump(job_of("triplets", tmp_path).to_mapping())
    (tmp_path / "job.yaml").write_text(text.replace("source: iris", "source: irsi"))
    with pytest.raises(JobError, match=r"unknown source 'irsi'.*'iris'") as raised:
        read_job(tmp_path / "job.yaml")
    line = next(number for number, row in enumerate(text.splitlines(), start=1) if "source: iris" in row)
    assert raised.value.where == f"job.yaml:{line}" or str(raised.value.where).endswith(f":{line}")


def test_several_tasks_metrics_follow_from_their_objectives() -> None:
    both = MultiTask(tasks={"a": "bce", "b": {"objective": "mse"}, "c": "cross_entropy", "d": lambda o, t: o - t})
    targets = {"a": torch.zeros(2), "b": torch.zeros(2), "c": torch.zeros(2, 5, dtype=torch.int64), "d": torch.zeros(2)}
    found = metric_names(task_of("multi_task"), targets, both)
    assert found == ("a.accuracy", "a.auc", "b.mae", "b.rmse", "b.r2", "c.accuracy", "d.mae", "d.rmse", "d.r2")
    assert metric_names(None, targets, both) == ()
    assert metric_names(task_of("multi_task"), torch.zeros(2), both) == ()


def test_masks_are_told_from_texts_by_their_dimensions() -> None:
    numbers = {1: "classification", 2: "language_modeling", 3: "segmentation"}
    for dims, name in numbers.items():
        assert infer_task(torch.zeros([2] * dims, dtype=torch.int64), None) == task_of(name)
    assert infer_task(torch.zeros([2] * 4, dtype=torch.int64), None) is None
    assert infer_task(None, "contrastive") == task_of("pairs")
    assert infer_task(torch.zeros(2), "huber") == task_of("regression")
