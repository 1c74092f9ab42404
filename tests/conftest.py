"""One thread everywhere: two thread pools on two cores make single steps up to 25 times slower."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

torch.set_num_threads(1)
