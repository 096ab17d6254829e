"""The command line. The text below is what a person reads and what the arguments are parsed by."""

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from docopt import DocoptExit, docopt

from ckanpackager import __version__
from ckanpackager.commands import misuse, remote
from ckanpackager.commands.console import Console
from ckanpackager.commands.parameters import Arguments
from ckanpackager.errors import PackagerError, SettingsError

USAGE = """Ckanpackager command line utility

Sends requests to a ckanpackager service, and makes packages without one.

Usage:
    ckanpackager [options] status
    ckanpackager [options] queue TASK [PARAM:VALUE ...] [--wait]
    ckanpackager [options] jobs [list] [--state STATE] [-o OFFSET] [-l LIMIT]
    ckanpackager [options] jobs (show|retry|cancel) JOB
    ckanpackager [options] (stats|statistics) [totals] [-x] [-r RESOURCE_ID]
    ckanpackager [options] (stats|statistics) requests [-o OFFSET] [-l LIMIT] [-r RESOURCE_ID] [-e EMAIL]
    ckanpackager [options] (stats|statistics) errors [-x] [-o OFFSET] [-l LIMIT] [-r RESOURCE_ID] [-e EMAIL]
    ckanpackager [options] (cc|clear-cache)
    ckanpackager [options] expire [--older-than DAYS]
    ckanpackager [options] doctor
    ckanpackager [options] package TASK [PARAM:VALUE ...] [--output PATH]
    ckanpackager [options] dwc-plan (COLUMN ... | -r RESOURCE_ID [--api-url URL])
    ckanpackager [options] demo [--task TASK] [--api-url URL] [-r RESOURCE_ID] [--output PATH]

What they do:
    status        What the service is doing: workers, waiting requests.
    queue         Ask the service for a package, as CKAN does. TASK is package_datastore,
                  package_dwc_archive or package_url; PARAM:VALUE is any parameter of it, such as
                  resource_id:..., email:..., limit:100. The defaults file (-d) gives the rest.
    jobs          The requests that the service has accepted, newest first; or one of
                  them, to look at, to try again or to stop.
    statistics    How often each resource was asked for, who asked, and what went wrong.
    clear-cache   Remove all finished packages that nothing still needs.
    expire        Remove the finished packages whose time is over, or that are older than DAYS.
    doctor        Check the installation on this host: settings (CKANPACKAGER_CONFIG), folders,
                  database, mail server, service, public address and CKAN.
    package       Make a package here and now, without a service. TASK and PARAM:VALUE as above.
    dwc-plan      Show where the columns of a resource, or those named, would go in a Darwin Core
                  Archive by the settings (CKANPACKAGER_CONFIG, else the defaults).
    demo          Show the whole service at work on this host, from the request to the package.

Options:
    -h --help          Show this screen.
    --version          Show version.
    -q                 Quiet. Output nothing but errors.
    --json             Output JSON, for scripts.
    -p HOST            The ckanpackager host. If not specified, the "host" in the defaults
                       file, or else http://127.0.0.1:8765
    -d FILE            Path to JSON file containing default values for parameters. Useful
                       for specifying the secret and api_url. If not specified, then
                       /etc/ckanpackager/ckanpackager-cli.json is used if present. All
                       values are used by queue and package, the others use the secret
                       (and the host). Example:
                       {"secret": "...", "api_url": "http://.../api/3/action/datastore_search"}
    -D                 Do not use a defaults file, not even the one given by -d.
    -s SECRET          The secret key. If present this overrides the secret in the defaults
                       file (but a secret given as PARAM:VALUE overrides this one).
    --wait             Wait until the e-mail has been sent, and output the download's address.
                       The exit status is 0 only if there is something to download.
    --state STATE      Only jobs that are queued, running, built, done, failed, cancelled or expired.
    -x                 Exit with status 1 if there are errors in the statistics.
    -o OFFSET          How many to pass over (0 if not specified).
    -l LIMIT           How many to show at most (100 if not specified).
    -r RESOURCE_ID     Only for this resource. With demo: the resource to package. With dwc-plan:
                       the resource to plan for.
    -e EMAIL           Only for this address.
    --older-than DAYS  Remove packages that were finished before so many days.
    --output PATH      With package: the file to write, instead of RESOURCE_ID.zip. With demo: the
                       folder to work in, instead of a new one.
    --api-url URL      With demo and dwc-plan: the datastore_search of a real CKAN to read from.
                       dwc-plan takes it from the defaults file if not specified.
    --task TASK        With demo: what to ask for [default: package_datastore].
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that ``argv`` (without the program's name) spells, and return its exit status."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        arguments: Arguments = docopt(USAGE, words, version=f"ckanpackager {__version__}")
    except DocoptExit as error:
        Console(quiet=False, as_json=False).complain(misuse.explain(USAGE, words, str(error), COMMANDS))
        return 1
    console = Console(quiet=arguments["-q"], as_json=arguments["--json"])
    command = next(COMMANDS[name] for name in COMMANDS if arguments[name])
    try:
        return command(arguments, console)
    except PackagerError as error:
        console.complain(f"ckanpackager: {error}")
    except KeyboardInterrupt:
        console.complain("Interrupted.")
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python must not trip over it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def package(arguments: Arguments, console: Console) -> int:
    """``package``"""
    from ckanpackager.commands import here  # noqa: PLC0415 - asking the service need not wait for all of it

    return here.package(arguments, console)


def dwc_plan(arguments: Arguments, console: Console) -> int:
    """``dwc-plan``"""
    from ckanpackager.commands import dwc_plan as command  # noqa: PLC0415 - it loads lxml

    return command.show(arguments, console)


def doctor(arguments: Arguments, console: Console) -> int:
    """``doctor``"""
    from ckanpackager.commands.doctor import diagnose  # noqa: PLC0415 - it loads all

    return diagnose(arguments, console)


def demo(arguments: Arguments, console: Console) -> int:
    """``demo``"""
    try:
        from ckanpackager.demo.run import run  # noqa: PLC0415 - it needs packages that nothing else does
    except ModuleNotFoundError as error:
        raise SettingsError(f"The demo needs {error.name}: pip install 'ckanpackager[demo]'.") from error
    folder = Path(arguments["--output"] or tempfile.mkdtemp(prefix="ckanpackager-demo-"))
    return run(arguments["--api-url"], arguments["-r"], arguments["--task"].lstrip("/"), folder)


COMMANDS: dict[str, Callable[[Arguments, Console], int]] = {
    "status": remote.status,
    "queue": remote.queue,
    "jobs": remote.jobs,
    "stats": remote.statistics,
    "statistics": remote.statistics,
    "cc": remote.clear_cache,
    "clear-cache": remote.clear_cache,
    "expire": remote.expire,
    "doctor": doctor,
    "package": package,
    "dwc-plan": dwc_plan,
    "demo": demo,
}
