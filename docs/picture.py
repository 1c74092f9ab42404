"""Put the curves of a run side by side for the README: python docs/picture.py runs/digits-1"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

WIDTH = 1200
CURVES = ("loss.png", "validation.png", "learning_rate.png", "gradient_norm.png")


def sheet(run: Path) -> Image.Image:
    """Four curves, two by two, on white."""
    tiles = [Image.open(run / name).convert("RGB") for name in CURVES]
    scaled = [tile.resize((WIDTH // 2, round(tile.height * WIDTH / 2 / tile.width)), Image.Resampling.LANCZOS) for tile in tiles]
    heights = [max(tile.height for tile in scaled[row : row + 2]) for row in (0, 2)]
    page = Image.new("RGB", (WIDTH, sum(heights)), "white")
    for place, tile in enumerate(scaled):
        page.paste(tile, ((place % 2) * WIDTH // 2, 0 if place < 2 else heights[0]))
    return page


if __name__ == "__main__":
    target = Path(__file__).parent / "images" / "digits.png"
    target.parent.mkdir(exist_ok=True)
    sheet(Path(sys.argv[1])).quantize(128).save(target, optimize=True)
    print(f"wrote {target}")
