"""Making a package here and now, without a service."""

import logging
import os
import secrets
import sys
from pathlib import Path

from tqdm import tqdm

from ckanpackager import packager
from ckanpackager.commands import parameters, views
from ckanpackager.commands.console import Console
from ckanpackager.commands.parameters import Arguments
from ckanpackager.errors import PackageError
from ckanpackager.form import Form
from ckanpackager.job import Job
from ckanpackager.settings import VARIABLE, Settings
from ckanpackager.store import Package

# Nobody is written to, but a job has an address.
NOBODY = "nobody@ckanpackager.example"


def package(arguments: Arguments, console: Console) -> int:
    """``package``: make the package that ``arguments`` describe, as the file of ``--output``.

    Without that it takes the name of its resource, in the working directory, unless the name is taken.
    """
    task, values = parameters.request(arguments, console)
    job = Job.from_form(task, Form({"email": NOBODY} | parameters.form(values)))
    path = _target(arguments["--output"], job)
    # Nobody else would say that CKAN is being asked again.
    logging.basicConfig(format="%(message)s", level=logging.ERROR if console.quiet else logging.WARNING)
    made = _make(job, path, settings(job.ckan_host), console)
    file = {"file": str(path), **{name: getattr(made, name) for name in ("rows", "size", "sha256", "report")}}
    console.answer({"success": True, "status": "success", **file}, views.file)
    return 0


def _target(named: str | None, job: Job) -> Path:
    path = Path(named or f"{job.resource_id}.zip")
    if path.is_dir():
        raise PackageError(f"{path} is a folder: name a file with --output.")
    if named is None and path.exists():
        raise PackageError(f"{path} is there already: remove it, or name another file with --output.")
    return path


def _make(job: Job, path: Path, settings: Settings, console: Console) -> Package:
    unit, scale = ("B", True) if job.resource_url else (" rows", False)
    hidden = console.quiet or not sys.stderr.isatty()
    with tqdm(desc="packaging", unit=unit, unit_scale=scale, dynamic_ncols=True, disable=hidden) as bar:

        def progress(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        try:
            return packager.package_here(job, settings, path, progress)
        except OSError as error:
            raise PackageError(f"{path} cannot be written: {error.strerror or error}.") from error


def settings(*hosts: str) -> Settings:
    """The service's settings where they are at hand, else the defaults, with these ``CKAN_HOSTS``."""
    if os.environ.get(VARIABLE):
        return Settings.from_environment()
    # Who types both the key and the address may have the one sent to the other.
    return Settings.from_mapping({"SECRET": secrets.token_hex(), "CKAN_HOSTS": list(hosts)})
