"""A little of ``make test-chaos``: two dozen jobs under kills and troubles of every kind."""

import os
from pathlib import Path

from tests.chaos.run import run


def test_a_few_jobs_get_through_whatever_is_killed(tmp_path: Path) -> None:
    run(tmp_path, jobs=25, kills=9, seed=int(os.environ.get("CHAOS_SEED") or 1))
