"""Run by ``make test-chaos``. CHAOS_JOBS, CHAOS_KILLS and CHAOS_SEED change it."""

import os
import random
from pathlib import Path

import pytest

from tests.chaos.run import run


@pytest.mark.timeout(3600)
def test_what_is_accepted_is_delivered_whatever_is_killed(tmp_path: Path) -> None:
    jobs = int(os.environ.get("CHAOS_JOBS") or 1000)
    kills = int(os.environ.get("CHAOS_KILLS") or jobs * 9 // 25)
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1_000_000))
    run(tmp_path, jobs, kills, seed)
