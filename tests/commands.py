"""Ways to run the command line, and what it needs around it."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ckanpackager import cli
from ckanpackager.commands import parameters

COMMAND = str(Path(sys.executable).with_name("ckanpackager"))


@dataclasses.dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str

    def one_complaint(self) -> str:
        """What was said of an error that was foreseen: one line, on standard error alone."""
        assert (self.status, self.out) == (1, ""), self
        assert "Traceback" not in self.err
        [line] = self.err.splitlines()
        assert line.startswith("ckanpackager: ")
        return line


def call(capsys: pytest.CaptureFixture[str], *words: str) -> Outcome:
    """Run the command in this process."""
    capsys.readouterr()
    status = cli.main(words)
    return Outcome(status, *capsys.readouterr())


def start(*words: str, **options: Any) -> "subprocess.Popen[str]":
    """The installed command, as a process."""
    environment = {**os.environ, "PYTHONWARNINGS": "error", "PYTHONUNBUFFERED": ""}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    return subprocess.Popen([COMMAND, *words], **{**pipes, "env": environment, "text": True, **options})


def execute(*words: str, **options: Any) -> Outcome:
    with start(*words, **options) as process:
        out, err = process.communicate(timeout=30)
    return Outcome(process.returncode, out, err)


def isolate(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Keep out the defaults file, the settings and the proxies of the machine that runs the tests."""
    monkeypatch.setattr(parameters, "DEFAULTS_FILE", folder / "no-such-defaults.json")
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name == "CKANPACKAGER_CONFIG":
            monkeypatch.delenv(name)


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def write_defaults(path: Path, **values: Any) -> str:
    path.write_text(json.dumps(values))
    path.chmod(0o600)
    return str(path)
