"""What a technique may learn about the data before training, to fill in settings that were left open.

A technique with such settings has a method `completed(facts) -> {field: (value, reason)}`, giving those it fills in. It
raises JobError where a setting needs a fact that the data doesn't have.
"""

from __future__ import annotations

from dataclasses import dataclass

from stepwell.core.batch import Batch


@dataclass
class DataFacts:
    """Facts of the training data.

    Args:
        num_samples: of the training part; None where it has no known length.
        steps_per_epoch: None likewise.
        sample: a few training examples, as a batch.
        batch_size: samples per optimizer step, over all micro-batches and ranks.
        class_counts: training samples of each class, where targets are class numbers.
        num_outputs: width of the model's output, where known.
        validated: whether there is a validation part.
        vocabulary: the word of each token id, where inputs are token ids.
        padding: the token id that fills short sequences up.
    """

    num_samples: int | None
    steps_per_epoch: int | None
    sample: Batch
    batch_size: int | None = None
    class_counts: list[int] | None = None
    num_outputs: int | None = None
    validated: bool = False
    vocabulary: list[str] | None = None
    padding: int | None = None
