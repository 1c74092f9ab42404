"""Job files that use more of YAML than a job may, and whether any is read."""

from __future__ import annotations

from pathlib import Path

from small_runs import JOB

from stepwell.core.errors import JobError

MARK = "made-by-a-job-file"
DOCUMENTS = {
    "a tag that calls": JOB + 'workers: !!python/object/apply:os.mkdir ["{place}"]\n',
    "a tag that makes": JOB + 'workers: !!python/object/new:pathlib.Path ["{place}"]\n',
    "a tag that names": JOB + "workers: !!python/name:os.system\n",
    "a tag of a module": JOB + "workers: !!python/module:os\n",
    "a tag of a type": JOB + "workers: !!int '1'\n",
    "an own tag": JOB + "workers: !mine 1\n",
    "an anchor and an alias": JOB.replace("seed: 3", "seed: &a 3") + "workers: *a\n",
    "an anchor": JOB.replace("seed: 3", "seed: &a 3"),
    "a merge": "base: &b {workers: 1}\n" + JOB + "<<: *b\n",
    "a bomb": "a: &a [1, 1]\nb: &b [*a, *a]\nc: &c [*b, *b]\n" + JOB,
    "a key twice": JOB + "seed: 4\n",
    "two documents": JOB + "---\n" + JOB,
}


def read_although_hostile(place: Path) -> list[str]:
    """Which of the documents are read, or do something."""
    from stepwell.recipe.files import read_job

    found = []
    for what, text in DOCUMENTS.items():
        path, made = place / "job.yaml", place / MARK
        path.write_text(text.replace("{place}", str(made)))
        try:
            read_job(path)
            found.append(f"{what} is read")
        except JobError:
            pass
        except Exception as error:
            found.append(f"{what} ends in {type(error).__name__}")
        if made.exists():
            made.rmdir()
            found.append(f"{what} did what it says")
    return found
