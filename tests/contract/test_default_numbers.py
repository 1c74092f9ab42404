"""The numbers that a technique takes when nobody gives any: those of the paper or library that its line names."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from stepwell.core.catalog import discover

DEFAULTS: dict[str, dict[str, Any]] = {
    "activation_init": {"negative_slope": 0.01},  # torch's LeakyReLU
    "adagrad": {"lr": 0.01, "lr_decay": 0.0, "initial_accumulator": 0.0, "eps": 1e-8, "weight_decay": 0.0},  # torch 2 but for eps
    "adam": {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0},  # Kingma & Ba 2015; torch 2
    "adamw": {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01},  # torch 2
    "adaptive_clip": {"clipping": 0.01, "eps": 1e-3},  # Brock et al. 2021
    "affine": {"degrees": 0.0, "translate": (0.1, 0.1), "scale": (1.0, 1.0), "shear": 0.0, "mask_fill": 0, "probability": 1.0},
    "back_translation": {"probability": 0.1},  # as its kin from Wei & Zou 2019
    "bce_dice": {"weight": 0.5, "smooth": 1.0, "ignore_index": -100},  # equal parts; torch 2
    "binary_focal": {"gamma": 2.0, "alpha": 0.25},  # Lin et al. 2017
    "clip_norm": {"max_norm": 1.0},  # what transformers are trained with; Pascanu et al. 2013 leave it open
    "clip_value": {"max_value": 0.5},
    "color_jitter": {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.1, "probability": 1.0},
    "contrastive": {"margin": 1.0},
    "converged": {"epsilon": 1e-4, "patience": 3},
    "cosine": {"floor": 0.01, "num_cycles": 0.5},  # a hundredth of the peak; Loshchilov & Hutter 2017 without restarts
    "cross_entropy": {"ignore_index": -100},  # torch 2
    "cutmix": {"alpha": 1.0, "probability": 1.0},  # Yun et al. 2019, ImageNet
    "dice": {"smooth": 1.0, "ignore_index": -100},  # torch 2
    "distillation": {"temperature": 4.0, "weight": 0.5},  # the middle of Hinton et al. 2015's 2.5 - 20; equal parts
    "dropout": {"probability": 0.1},  # what transformers are trained with, Vaswani et al. 2017
    "early_stopping": {"patience": 10, "min_delta": 0.0},
    "elastic_net": {"l1": 1e-5, "l2": 2e-4},  # 1e-5 sum |p| + 1e-4 sum p^2
    "erasing": {"probability": 0.2, "area": (0.02, 0.4), "ratio": (0.3, 1 / 0.3)},  # Zhong et al. 2020 but for the share
    "exponential": {"gamma": 0.95},
    "fine_tuning_phase": {"lr_factor": 0.033},  # 3e-4 to 1e-5
    "flip": {"probability": 0.5},
    "focal": {"gamma": 2.0, "ignore_index": -100},  # Lin et al. 2017; torch 2
    "hidden_mixup": {"alpha": 0.2, "probability": 1.0},  # as mixup
    "huber": {"delta": 1.0},  # torch 2
    "kaiming_init": {"negative_slope": 0.01},  # torch's LeakyReLU
    "l1_penalty": {"weight": 1e-5},
    "l2_penalty": {"weight": 1e-4},  # He et al. 2016
    "label_smoothing": {"epsilon": 0.1},  # Szegedy et al. 2016
    "lamb": {"lr": 2e-3, "betas": (0.9, 0.999), "eps": 1e-6, "weight_decay": 0.01},  # You et al. 2020
    "lars": {"lr": 1.0, "momentum": 0.9, "weight_decay": 0.0, "trust_coefficient": 1e-3},  # You et al. 2017
    "layerwise_lr": {"decay": 0.75},
    "lion": {"lr": 1e-4, "betas": (0.9, 0.99), "weight_decay": 0.0},  # Chen et al. 2023
    "lora": {"rank": 8, "alpha": 32.0, "dropout": 0.05},
    "lr_groups": {"others": 1.0},
    "lr_scaling": {"base_batch_size": 256},  # Goyal et al. 2017
    "mixup": {"alpha": 0.2},  # Zhang et al. 2018, ImageNet
    "multistep": {"gamma": 0.1},  # torch 2
    "muon": {
        "lr": 1e-3,
        "momentum": 0.95,  # with 5 iterations: Jordan et al. 2024
        "weight_decay": 0.1,  # with AdamW's 0.9 and 0.95: Liu et al. 2025
        "num_iterations": 5,
        "adamw_factor": 1.0,
        "adamw_betas": (0.9, 0.95),
        "eps": 1e-8,
        "replica_dims": 0,
    },
    "noam": {"scale": 1.0},  # Vaswani et al. 2017
    "one_cycle": {"div_factor": 25.0, "final_div_factor": 1e4, "momentum_low": 0.85, "momentum_high": 0.95},  # torch 2
    "orthogonal_init": {"negative_slope": 0.01},  # torch's LeakyReLU
    "plateau": {"factor": 0.1, "patience": 10, "min_delta": 1e-4, "cooldown": 0, "floor": 0.0},  # torch 2
    "random_crop": {"padding": 4, "mask_fill": 0, "probability": 1.0},  # He et al. 2016, CIFAR
    "random_deletion": {"probability": 0.1},  # Wei & Zou 2019
    "random_insertion": {"probability": 0.1},  # Wei & Zou 2019
    "recurrent_init": {"forget_bias": 1.0},  # Jozefowicz et al. 2015
    "resized_crop": {"scale": (0.8, 1.0), "ratio": (3 / 4, 4 / 3), "probability": 1.0},  # Szegedy et al. 2015 but for the scale
    "rmsprop": {"lr": 1e-3, "alpha": 0.99, "eps": 1e-8, "weight_decay": 0.0, "momentum": 0.0},  # torch 2 but for the rate
    "rotation": {"degrees": 15.0, "mask_fill": 0, "probability": 1.0},
    "schedule_free_adamw": {"lr": 2.5e-3, "interpolation": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0},
    "sgd": {"lr": 0.1, "momentum": 0.9, "dampening": 0.0, "weight_decay": 0.0},  # He et al. 2016; torch 2
    "step": {"gamma": 0.1},  # torch 2
    "stochastic_depth": {"probability": 0.1},
    "synonym_replacement": {"probability": 0.1},  # Wei & Zou 2019
    "triplet": {"margin": 0.3},  # Hermans et al. 2017
    "truncated_normal_init": {"std": 0.02, "cut": 2.0},  # Dosovitskiy et al. 2021
    "validation_rising": {"patience": 5},
    "warm_restarts": {"growth": 1, "floor": 0.01},  # torch 2; a hundredth of the peak
    "warmup": {"start": 0.0},
    "warmup_cosine": {"floor": 0.01},  # a hundredth of the peak
    "warmup_linear": {"floor": 0.0},  # Devlin et al. 2019
    "warmup_stable_decay": {"floor": 0.0},  # Hu et al. 2024
    "xavier_init": {"negative_slope": 0.01},  # torch's LeakyReLU
}
# Functions with the mathematics, ID.NAME: their defaults are those of the class beside them, or switch a part off.
FUNCTIONS: dict[str, dict[str, Any]] = {
    "activation_init.init_table": {"negative_slope": 0.01},
    "adagrad.adagrad_": {"lr_decay": 0.0, "eps": 1e-8, "weight_decay": 0.0},
    "adam.adam_": {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0},
    "adaptive_clip.adaptive_clip_": {"clipping": 0.01, "eps": 1e-3},
    "affine.transform_pictures": {"mask_fill": 0},
    "binary_focal.binary_focal_sum": {"gamma": 2.0},
    "constant.constant": {"warmup": 0.0, "per_step": 1.0},
    "contrastive.contrastive_losses": {"margin": 1.0},
    "cosine.cosine": {"floor": 0.0, "num_cycles": 0.5},
    "dice.batch_dice_loss": {"smooth": 1.0},
    "dice.dice_losses": {"smooth": 1.0},
    "focal.focal_sum": {"gamma": 2.0},
    "huber.huber_sum": {"delta": 1.0},
    "inverse_sqrt.inverse_sqrt": {"per_step": 1.0},
    "kaiming_init.kaiming_std": {"negative_slope": 0.01},
    "lamb.lamb_": {"betas": (0.9, 0.999), "eps": 1e-6, "weight_decay": 0.01},
    "lars.lars_": {"momentum": 0.9, "weight_decay": 0.0, "trust_coefficient": 1e-3},
    "lion.lion_": {"betas": (0.9, 0.99), "weight_decay": 0.0},
    "lr_groups.lr_factors": {"others": 1.0},
    "multistep.multistep": {"gamma": 0.1},
    "muon.muon_groups": {"replica_dims": 0},
    "muon.orthogonalized": {"num_iterations": 5, "eps": 1e-7},  # torch 2
    "noam.noam": {"scale": 1.0, "per_step": 1.0},
    "random_crop.pad_pictures": {"mask_fill": 0},
    "rmsprop.rmsprop_": {"alpha": 0.99, "eps": 1e-8, "weight_decay": 0.0, "momentum": 0.0},
    "rotation.rotate_pictures": {"mask_fill": 0},
    "schedule_free_adamw.schedule_free_adamw_": {"interpolation": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0},
    "sgd.sgd_": {"momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0},
    "step.step": {"gamma": 0.1},
    "triplet.triplet_losses": {"margin": 0.3},
    "warm_restarts.warm_restarts": {"growth": 1, "floor": 0.0},
    "warmup.warmup": {"start": 0.0, "per_step": 1.0},
    "warmup_cosine.warmup_cosine": {"floor": 0.0, "per_step": 1.0},
    "warmup_linear.warmup_linear": {"floor": 0.0, "per_step": 1.0},
    "warmup_stable_decay.warmup_stable_decay": {"floor": 0.0, "per_step": 1.0},
    "xavier_init.xavier_std": {"gain": 1.0},
}


@pytest.mark.parametrize("id", DEFAULTS, ids=list(DEFAULTS))
def test_the_default_numbers_of_a_technique_are_the_published_ones(id: str) -> None:
    fields = discover()[id].fields
    assert {name: fields[name].default for name in DEFAULTS[id]} == DEFAULTS[id]


@pytest.mark.parametrize("path", FUNCTIONS, ids=list(FUNCTIONS))
def test_the_default_numbers_of_a_function_are_the_published_ones(path: str) -> None:
    import stepwell.techniques

    parameters = inspect.signature(getattr(stepwell.techniques, path.partition(".")[2])).parameters
    assert {key: parameters[key].default for key in FUNCTIONS[path]} == FUNCTIONS[path]
