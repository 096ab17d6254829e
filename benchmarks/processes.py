"""A process for each measurement, so that none inherits what another has used."""

from collections.abc import Callable
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path
from typing import Any


def result_of(context: ForkServerContext | SpawnContext, target: Callable[..., None], *arguments: Any) -> Any:
    """What ``target``, called in a process of its own with a pipe and the arguments, sends into the pipe."""
    here, there = context.Pipe(duplex=False)
    with here, there:
        process = context.Process(target=target, args=(there, *arguments))
        process.start()
        process.join()
        return here.recv()


def peak_megabytes(pid: int | str = "self") -> float:
    """The most memory that the process ever had in RAM (VmHWM); 0 where it has just ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)
