"""Write the tables that the example jobs read, into examples/data: breast_cancer.csv and waves.csv."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer


def breast_cancer() -> pd.DataFrame:
    """The 569 tumours of scikit-learn's copy of the Wisconsin set, with the diagnosis as a word."""
    loaded = load_breast_cancer(as_frame=True)
    frame = loaded.data.rename(columns=lambda name: name.replace(" ", "_"))
    frame["diagnosis"] = np.where(loaded.target == 1, "benign", "malignant")
    return frame


def waves(num_hours: int = 2000) -> pd.DataFrame:
    """An hourly load with a daily and a weekly wave and noise."""
    hour = np.arange(num_hours)
    noise = np.random.default_rng(0).normal(scale=0.1, size=num_hours)
    load = np.sin(2 * np.pi * hour / 24) + 0.5 * np.sin(2 * np.pi * hour / 168) + noise
    return pd.DataFrame({"hour": hour, "load": load})


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "data"
    folder.mkdir(parents=True, exist_ok=True)
    breast_cancer().to_csv(folder / "breast_cancer.csv", index=False)
    waves().to_csv(folder / "waves.csv", index=False)
    print(f"wrote {folder / 'breast_cancer.csv'} and {folder / 'waves.csv'}")
