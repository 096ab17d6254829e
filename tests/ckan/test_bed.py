"""The bed that these tests lie in."""

import json
import os
import subprocess
import sys
import time

from tests.ckan.bed import RealCkan, new_folder
from tests.services import children, is_alive

PATIENCE = 60


def test_a_killed_bed_leaves_no_process_and_the_next_one_tidies_up(ckan: RealCkan) -> None:
    command = [sys.executable, "-m", "tests.ckan.bed", "--ckan", ckan.version]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as bed:
        assert bed.stdout is not None
        said = json.loads(bed.stdout.readline())
        servers = children(bed.pid)
        workers = [worker for server in servers for worker in children(server)]
        bed.kill()
    assert said["url"] != ckan.url
    assert len(servers) == 3
    assert len(workers) > 2
    deadline = time.monotonic() + PATIENCE
    while any(map(is_alive, servers + workers)):
        assert time.monotonic() < deadline, "they live on"
        time.sleep(0.05)
    with new_folder() as folder:
        assert list(folder.parent.glob(f"ckanpackager-ckan-{os.getpid()}-*"))
        assert not list(folder.parent.glob(f"ckanpackager-ckan-{bed.pid}-*"))
