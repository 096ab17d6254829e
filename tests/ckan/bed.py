"""A real CKAN of our own, to test and to measure against.

    with RealCkan() as ckan:
        table = ckan.create_table("birds", {"name": "text"}, [["Adelie"], ["Gentoo"]])
        ckan.api_url                                        # where its datastore_search is
        ckan.psql(f'SELECT name FROM "{table}"')            # what PostgreSQL says, without CKAN

or ``python -m tests.ckan.bed``, to have one until it is interrupted:

Usage:
    bed [--rows N] [--ckan VERSION] [--folder FOLDER]

Options:
    --rows N         Make a public table of N specimens (34 columns; see ckanpackager/demo/specimens.py).
    --ckan VERSION   Such as 2.11.6; by default what CKAN_VERSION says, or 2.12.0.
    --folder FOLDER  Where to install it, by default .ckan/VERSION.

The first start installs CKAN and takes minutes; later ones take seconds. Each has a new database.
"""

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import docopt
import requests

from ckanpackager.demo.specimens import FIELDS, PERIOD, make_row
from tests.ckan.installation import Installation, check_machine, requested_version, run, version_numbers
from tests.ckan.servers import PATIENCE, HeldPort, PostgreSQL, Redis, Server
from tests.ckan.solr import Solr
from tests.services import children, is_alive

SECRET = "the secret that CKAN and the packager share"
ADMINISTRATOR = "admin"
WORKERS = 2
TIMEOUT = 120
RECORDS_AT_ONCE = 5000
INI = """
[DEFAULT]
debug = false
[app:main]
use = egg:ckan
{settings}
[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys = plain
[logger_root]
level = WARNING
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = plain
[formatter_plain]
format = %(asctime)s %(process)d %(levelname)s %(name)s: %(message)s
"""
WSGI = """
import os
from ckan.cli import CKANConfigLoader
from ckan.config.middleware import make_app

application = make_app(CKANConfigLoader(os.environ["CKAN_INI"]).get_config())
"""


class Website(Server):
    """CKAN itself, under gunicorn."""

    stop_signal = signal.SIGQUIT

    def __init__(self, installation: Installation, folder: Path, ini: Path, port: int) -> None:
        super().__init__(folder / "ckan.log")
        self._gunicorn = installation.program("gunicorn")
        # Gunicorn of Python 3.8 has no control socket, and no such option.
        self._options = [] if installation.is_old else ["--no-control-socket"]
        self._folder = folder
        self._ini = ini
        self._port = port
        (folder / "wsgi.py").write_text(WSGI)

    def start(self) -> None:
        options = ["--workers", str(WORKERS), "--bind", f"127.0.0.1:{self._port}", "--timeout", "120"]
        options += ["--graceful-timeout", "2", *self._options]
        self.run(
            [self._gunicorn, *options, "wsgi:application"],
            cwd=self._folder,
            env={**os.environ, "CKAN_INI": str(self._ini)},
        )
        self.wait_until_ready()

    def is_ready(self) -> bool:
        try:
            answer = requests.get(f"http://127.0.0.1:{self._port}/api/action/status_show", timeout=TIMEOUT)
        except requests.ConnectionError:
            return False
        return answer.status_code == 200

    @property
    def workers(self) -> list[int]:
        return [pid for pid in children(self.pid) if is_alive(pid)]


class Surroundings:
    """A folder with all that a CKAN needs but CKAN: a database, Redis, Solr, ports and a settings file."""

    def __init__(self, installation: Installation, settings: Mapping[str, Any]) -> None:
        self._installation = installation
        self._settings = settings
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Surroundings":
        with self._stack:
            self.folder = self._stack.enter_context(new_folder())
            self.port = self._stack.enter_context(HeldPort()).number
            self.packager_port = self._stack.enter_context(HeldPort()).number
            self.solr = self._stack.enter_context(Solr())
            self.redis = self._stack.enter_context(Redis(self.folder))
            self.postgresql = self._stack.enter_context(PostgreSQL(self.folder))
            if os.getuid() == 0:
                shutil.chown(self.folder, "postgres")
            self.redis.start()
            self.ini = self.folder / "ckan.ini"
            self.configure({})
            self._entered = self._stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._entered.close()

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Write the settings file."""
        settings = {**self._usual_settings(), **self._older_settings(), **self._settings, **changes}
        lines = "\n".join(f"{name} = {value}" for name, value in settings.items())
        self.ini.write_text(INI.replace("{settings}", lines))

    def _usual_settings(self) -> dict[str, Any]:
        postgresql = self.postgresql
        secret = "not a secret, for it guards nothing"
        return {
            "SECRET_KEY": secret,
            "api_token.jwt.encode.secret": f"string:{secret}",
            "api_token.jwt.decode.secret": f"string:{secret}",
            "sqlalchemy.url": postgresql.url("ckan", "ckan"),
            "ckan.datastore.write_url": postgresql.url("ckan", "datastore"),
            "ckan.datastore.read_url": postgresql.url("reader", "datastore"),
            "ckan.redis.url": self.redis.url,
            "solr_url": self.solr.url,
            "ckan.site_url": f"http://127.0.0.1:{self.port}",
            "ckan.storage_path": self.folder / "storage",
            "ckan.plugins": "datastore ckanpackager",
            "ckanpackager.url": f"http://127.0.0.1:{self.packager_port}",
            "ckanpackager.secret": SECRET,
        }

    def _older_settings(self) -> dict[str, Any]:
        """What CKAN 2.9 does not start without."""
        if not self._installation.is_old:
            return {}
        [who] = self._installation.folder.glob("venv/lib/*/site-packages/ckan/config/who.ini")
        return {
            "who.config_file": who,
            "cache_dir": self.folder / "cache",
            "beaker.session.key": "ckan",
            "beaker.session.secret": "not a secret",
            "app_instance_uuid": "not a secret",
        }


@contextlib.contextmanager
def new_folder() -> Iterator[Path]:
    """A folder that goes with us; also those of who was killed before he could tidy up."""
    prefix = "ckanpackager-ckan"
    for old in Path(tempfile.gettempdir()).glob(f"{prefix}-*-*"):
        if not is_alive(int(old.name.split("-")[2])):
            shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}-{os.getpid()}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def prepare(installation: Installation) -> None:
    """Install what is not installed yet, and keep the databases of a new CKAN."""
    check_machine(installation.version)
    with installation.locked():
        if installation.is_complete():
            return
        installation.install()
        with Surroundings(installation, {}) as around:
            around.postgresql.create()
            around.postgresql.start()
            _create_databases(installation, around)
            around.postgresql.stop()
            around.postgresql.pack(installation.databases)
        installation.complete()


def _create_databases(installation: Installation, around: Surroundings) -> None:
    around.postgresql.script("CREATE ROLE ckan LOGIN; CREATE ROLE reader LOGIN;", "postgres")
    for database in ("ckan", "datastore"):
        around.postgresql.script(f"CREATE DATABASE {database} OWNER ckan ENCODING 'UTF8'", "postgres")

    def ckan(*arguments: str, text: str | None = None) -> str:
        command: list[Path | str] = [installation.program("ckan"), "-c", around.ini, *arguments]
        return run(command, installation.folder / "ckan.log", text=text, folder=around.folder)

    ckan("db", "init")
    around.postgresql.script(ckan("datastore", "set-permissions"), "postgres")
    ckan("ckanpackager", "initdb")
    ckan("user", "add", ADMINISTRATOR, "email=admin@localhost.example", "password=correct horse")
    ckan("sysadmin", "add", ADMINISTRATOR)
    (installation.folder / "token").write_text(ckan("user", "token", "add", ADMINISTRATOR, "bed", "-q"))


class RealCkan:
    """A context manager. *settings* are CKAN's own, beside those that it needs to run.

    ``packager_port`` is where the extension in it looks for a ckanpackager-service, with `SECRET`; nothing
    listens there until a test starts one.
    """

    def __init__(
        self,
        version: str | None = None,
        *,
        folder: Path | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.version = version or requested_version()
        self._installation = Installation(self.version, folder)
        self._settings = settings or {}

    def __enter__(self) -> "RealCkan":
        prepare(self._installation)
        self.token = self._installation.token
        self._session = requests.Session()
        with contextlib.ExitStack() as stack:
            around = stack.enter_context(Surroundings(self._installation, self._settings))
            self._around = around
            self.postgresql = around.postgresql
            self.postgresql.unpack(self._installation.databases)
            self.postgresql.start()
            website = Website(self._installation, around.folder, around.ini, around.port)
            self.website = stack.enter_context(website)
            stack.callback(self.resume)
            self.website.start()
            self.url = f"http://127.0.0.1:{around.port}"
            self.api_url = f"{self.url}/api/action/datastore_search"
            self.packager_port = around.packager_port
            stack.enter_context(self._session)
            self._create_datasets()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    # What it holds

    def call(self, action: str, **parameters: Any) -> Any:
        """What an action answers to the administrator."""
        answer = self._session.post(
            f"{self.url}/api/action/{action}", json=parameters, headers=self.authorization, timeout=TIMEOUT
        )
        assert answer.status_code == 200, f"{action}: {answer.status_code} {answer.text[:2000]}"
        return answer.json()["result"]

    @property
    def authorization(self) -> dict[str, str]:
        """The headers of the administrator's requests."""
        return {"Authorization": self.token}

    def _create_datasets(self) -> None:
        self.call("organization_create", name="museum")
        for name in ("public", "private"):
            self.call("package_create", name=name, owner_org="museum", private=name == "private")

    def create_table(
        self,
        name: str,
        fields: Mapping[str, str],
        rows: Iterable[Sequence[Any]] = (),
        *,
        dataset: str = "public",
        **resource: Any,
    ) -> str:
        """A new resource with a table in the datastore; its id."""
        table: str = self.call(
            "datastore_create",
            resource={"package_id": dataset, "name": name, **resource},
            fields=[{"id": id, "type": type_} for id, type_ in fields.items()],
            force=True,
        )["resource_id"]
        self.insert(table, list(fields), rows)
        return table

    def insert(self, table: str, fields: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """More rows, through CKAN."""
        records = [dict(zip(fields, row, strict=True)) for row in rows]
        for start in range(0, len(records), RECORDS_AT_ONCE):
            self.call(
                "datastore_upsert",
                resource_id=table,
                method="insert",
                records=records[start : start + RECORDS_AT_ONCE],
                force=True,
            )

    def repeat_rows(self, table: str, count: int) -> None:
        """Have *count* rows: those that are there, whose ids are 1 to n, over and over, each with its own id.

        Before 2.12 CKAN also indexes the words of each text column, for a ``q`` of that column alone. These
        indexes go, as they would take minutes to make anew.
        """
        [(period,)] = self.psql(f'SELECT count(*) FROM "{table}"')
        columns = [name for (name,) in self.psql(
            "SELECT quote_ident(column_name) FROM information_schema.columns"
            " WHERE table_name = %s AND column_name <> '_id' ORDER BY ordinal_position", table
        )]  # fmt: skip
        names = ", ".join(columns)
        indexes = self.psql(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = %s AND indexdef LIKE '%%USING gi%%'",
            table,
        )
        with self.connection() as connection, connection.cursor() as cursor:
            for index, _ in indexes:
                cursor.execute(f'DROP INDEX "{index}"')
            # With its _full_text, which CKAN's trigger then leaves as it is.
            cursor.execute(
                f'INSERT INTO "{table}" (_id, {names}) SELECT n * {period} + t._id, {names}'
                f" FROM generate_series(1, {(count - 1) // period}) AS n CROSS JOIN LATERAL"
                f' (SELECT * FROM "{table}" WHERE _id <= {period} ORDER BY _id) AS t'
                f" WHERE n * {period} + t._id <= {count}"
            )
            cursor.execute(f"""SELECT setval(pg_get_serial_sequence('"{table}"', '_id'), {count})""")
            for _, definition in indexes:
                if "_full_text" in definition:
                    cursor.execute(definition)
        self.forget_count(table)

    def forget_count(self, table: str) -> None:
        """Have CKAN count the rows anew, as it does when they are changed through it."""
        if version_numbers(self.version) >= (2, 12):
            self.psql("DELETE FROM _table_stats WHERE resource_id = %s", table)

    def load_specimens(self, count: int, **where: Any) -> str:
        """A table of *count* rows and 34 columns."""
        rows = [make_row(n) for n in range(min(count, PERIOD))]
        table = self.create_table("specimens", FIELDS, rows, **where)
        if count > PERIOD:
            self.repeat_rows(table, count)
        self.vacuum(table)
        return table

    def vacuum(self, table: str) -> None:
        """What autovacuum would do in its own time."""
        with contextlib.closing(self.postgresql.connect("datastore")) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f'VACUUM ANALYZE "{table}"')

    def upload(self, name: str, content: bytes, *, dataset: str = "public") -> dict[str, Any]:
        """A new resource that is a file."""
        answer = self._session.post(
            f"{self.url}/api/action/resource_create",
            data={"package_id": dataset, "name": name},
            files={"upload": (name, content)},
            headers=self.authorization,
            timeout=TIMEOUT,
        )
        assert answer.status_code == 200, answer.text[:2000]
        return dict(answer.json()["result"])

    # What is said of it by others

    @contextlib.contextmanager
    def connection(self) -> Iterator[Any]:
        """A transaction in the datastore's database, as PostgreSQL's superuser."""
        with contextlib.closing(self.postgresql.connect("datastore")) as connection, connection:
            yield connection

    def psql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """What PostgreSQL itself answers."""
        with self.connection() as connection, connection.cursor() as cursor:
            cursor.execute(query, values or None)
            return list(cursor.fetchall()) if cursor.description else []

    def dump(self, table: str, **parameters: Any) -> bytes:
        """CKAN's own download of a table."""
        answer = self._session.get(
            f"{self.url}/datastore/dump/{table}",
            params=parameters,
            headers=self.authorization,
            timeout=TIMEOUT,
        )
        assert answer.status_code == 200, answer.text[:2000]
        return answer.content

    def wait_for_a_blocked_query(self) -> None:
        """Until a query of CKAN's waits for a lock."""
        deadline = time.monotonic() + PATIENCE
        while not self.psql(
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = 'datastore'"
        ):
            assert time.monotonic() < deadline, "no query waits for a lock"
            time.sleep(0.02)

    # What befalls it

    def kill_workers(self) -> None:
        """SIGKILL to the processes that answer; gunicorn replaces them."""
        for pid in self.website.workers:
            os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """Connections are refused from now on."""
        self.website.stop()

    def start(self, **settings: Any) -> None:
        """Start it again, with other settings (a dot is written as __)."""
        self._around.configure({name.replace("__", "."): value for name, value in settings.items()})
        self.website.start()

    def pause(self) -> None:
        """It says nothing more, and hangs up on nobody."""
        for pid in self.website.workers:
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        if self.website.process is not None:
            for pid in self.website.workers:
                os.kill(pid, signal.SIGCONT)

    def stop_postgresql(self) -> None:
        """As if it crashed: sessions are cut, nothing is tidied up."""
        self.postgresql.stop(signal.SIGQUIT)

    def start_postgresql(self) -> None:
        self.postgresql.start()


def main() -> None:
    arguments = docopt.docopt(__doc__ or "")
    version, folder, rows = arguments["--ckan"], arguments["--folder"], arguments["--rows"]
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit())
    print("Starting a CKAN ...", file=sys.stderr, flush=True)
    with RealCkan(version, folder=Path(folder) if folder else None) as ckan:
        said = {"version": ckan.version, "url": ckan.url, "api_url": ckan.api_url, "token": ckan.token}
        if rows:
            said["resource_id"] = ckan.load_specimens(int(rows))
        said["packager_port"] = str(ckan.packager_port)
        print(json.dumps(said), flush=True)
        print("It runs until it is interrupted (Ctrl+C, or SIGTERM).", file=sys.stderr, flush=True)
        ended.wait()


if __name__ == "__main__":
    main()
