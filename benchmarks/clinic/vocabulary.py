"""The ids of findings that a case may name."""

from __future__ import annotations

_STEPS = (
    "lr_too_high lr_too_low momentum_too_high too_few_epochs batch_too_small warmup_too_short unstable_gradient out_of_memory"
)
_LOSS = (
    "loss_reduction_sum loss_sign_flipped wrong_loss unstable_loss wrong_output_activation missing_output_activation "
    "softmax_before_ce softmax_wrong_dim wrong_num_outputs label_out_of_range target_shape_mismatch unscaled_targets"
)
_DATA = (
    "nan_in_inputs inf_in_inputs unnormalised_inputs constant_features constant_labels class_imbalance labels_misaligned "
    "unshuffled_data data_leakage train_val_mismatch"
)
_BATCH = "last_batch_of_one batchnorm_small_batch batch_dependence"
_SIGNAL = (
    "symmetric_init init_too_large vanishing_gradient exploding_gradient dead_relu saturated_activation missing_nonlinearity "
    "frozen_params params_not_in_optimizer unregistered_params detached_graph eval_mode_in_training"
)
_FIT = "capacity_too_small underfitting overfitting over_regularised dropout_too_high"

IDS = frozenset(" ".join((_STEPS, _LOSS, _DATA, _BATCH, _SIGNAL, _FIT)).split())
