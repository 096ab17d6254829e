import dataclasses
import errno
import os
import pickle
import re
import resource
import socket
import string
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ckanpackager import settings as module
from ckanpackager.errors import SettingsError
from ckanpackager.settings import (
    FAILURE_PLACEHOLDERS,
    PLACEHOLDERS,
    SETTINGS,
    Settings,
    example,
    reference,
)

SECRET = "correct horse battery staple"
EXAMPLE = Path(__file__).parents[1] / "etc" / "ckanpackager_settings.py"
NAMES = [setting.name for setting in SETTINGS]

# The example of the retired service's manual, with a secret of its own.
OLD_FILE = '''
# Debug mode
DEBUG = False
HOST = '127.0.0.1'
PORT = 8765
SECRET = 'correct horse battery staple'
STATS_DB = 'sqlite:////var/lib/ckanpackager/stats.db'
CELERY_BROKER = 'redis://localhost:6379/0'
STORE_DIRECTORY = "/tmp/ckanpackager"
TEMP_DIRECTORY = "/tmp"
CACHE_TIME = 60*60*24
PAGE_SIZE = 5000
SLOW_REQUEST = 50000
ZIP_COMMAND = "/usr/bin/zip -j {output} {input}"
EMAIL_SUBJECT = "Resource from {ckan_host}"
EMAIL_FROM = "(nobody)"
EMAIL_BODY = """Hello,

The link to the resource you requested on {ckan_host} is available at:
http://{ckan_host}/{zip_file_name}

Best Wishes,
The Data Portal Bot
"""
SMTP_HOST = 'localhost'
SMTP_PORT = 25
#SMTP_LOGIN = ''
DWC_ID_FIELD = '_id'
DWC_CORE_EXTENSION = '/etc/ckanpackager/gbif_dwca_extensions/core/dwc_occurrence.xml'
DWC_ADDITIONAL_EXTENSIONS = []
DWC_DYNAMIC_TERM = 'dynamicProperties'
DWC_EXTENSION_FIELDS = {
    'associatedMedia': {
        'extension': '/etc/ckanpackager/gbif_dwca_extensions/extensions/multimedia.xml',
        'fields': {'type': 'StillImage', 'format': 'image/jpeg', 'identifier': ''}
    }
}
'''


def of(**values):
    return Settings.from_mapping({"SECRET": SECRET, **values})


def problems(**values):
    """The lines of the refusal of these settings."""
    with pytest.raises(SettingsError) as refusal:
        of(**values)
    return str(refusal.value).splitlines()


def written(folder, text):
    path = folder / "settings.py"
    path.write_text(text, encoding="utf-8")
    return path


# The file.


def test_old_installations_file_loads_with_all_that_it_says(tmp_path):
    settings = Settings.load(written(tmp_path, OLD_FILE))
    assert settings.CACHE_TIME == 86400
    assert settings.ZIP_COMMAND == "/usr/bin/zip -j {output} {input}"
    assert settings.DWC_EXTENSION_FIELDS["associatedMedia"]["fields"]["format"] == "image/jpeg"
    assert "CELERY_BROKER is accepted and not used." in settings.notes()
    assert not any(note.startswith("SENTRY_DSN") for note in settings.notes())


def test_names_of_the_files_own_are_not_settings(tmp_path):
    text = f"import os as OS\nday = 60\n_PRIVATE = 1\nSECRET = '{SECRET}'\nCACHE_TIME = 2 * day\n"
    settings = Settings.load(written(tmp_path, text))
    assert settings.CACHE_TIME == 120
    assert settings.given == {"SECRET", "CACHE_TIME"}


def test_file_can_name_folders_beside_itself(tmp_path):
    text = (
        f"from pathlib import Path\nSECRET = '{SECRET}'\nSTORE_DIRECTORY = Path(__file__).parent / 'store'\n"
    )
    assert str(tmp_path / "store") == Settings.load(written(tmp_path, text)).STORE_DIRECTORY


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("PORT = 1\nHOST = = 2\n", ", line 2: the settings file is not Python"),
        ("PORT = 1\n\nHOST = own_host\n", ", line 3: the settings file fails: NameError"),
        (
            "def port():\n    return 1 / 0\n\nPORT = port()\n",
            ", line 2: the settings file fails: ZeroDivision",
        ),
        ("import no_such_module_at_all\n", ", line 1: the settings file fails: ModuleNotFoundError"),
        ("PORT = 1\nraise SystemExit\n", ", line 2: the settings file fails: SystemExit"),
        ("PORT = 1\0\n", "(, line 1)?: the settings file is not Python"),
        ("# coding: no-such-coding\n", ": the settings file is not Python: unknown encoding"),
    ],
)
def test_file_that_cannot_be_run_is_reported_with_its_line(tmp_path, text, line):
    path = written(tmp_path, text)
    with pytest.raises(SettingsError) as refusal:
        Settings.load(path)
    assert re.match(re.escape(str(path)) + line, str(refusal.value))


def test_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"nowhere\.py: the settings file cannot be read: No such file"):
        Settings.load(tmp_path / "nowhere.py")


def test_environment_names_the_file(tmp_path):
    path = written(tmp_path, f"SECRET = '{SECRET}'\nPORT = 9\n")
    assert Settings.from_environment({"CKANPACKAGER_CONFIG": str(path)}).PORT == 9


@pytest.mark.parametrize("environment", [{}, {"CKANPACKAGER_CONFIG": ""}])
def test_environment_without_a_file_is_told_what_to_set(environment):
    with pytest.raises(SettingsError, match="CKANPACKAGER_CONFIG is not set: set it to the path"):
        Settings.from_environment(environment)


# What is refused, and how.


def test_all_problems_are_reported_at_once_each_in_a_sentence(tmp_path):
    path = written(tmp_path, "PORT = 'x'\nPAGE_SIZES = 1\nSMTP_PORT = 0\n")
    with pytest.raises(SettingsError) as refusal:
        Settings.load(path)
    lines = str(refusal.value).splitlines()
    assert [re.match(r".*/settings\.py: (\w+) .*\.$", line)[1] for line in lines] == [
        "PAGE_SIZES",
        "PORT",
        "SECRET",
        "SMTP_PORT",
    ]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"SECRET": None}, "SECRET is missing"),
        ({"SECRET": module.PUBLISHED_SECRET}, "SECRET is still the published example"),
        ({"SECRET": "1234567"}, "SECRET has fewer than 8 characters"),
        ({"SECRET": b"12345678"}, "SECRET must be text"),
        ({"DEBUG": 1}, "DEBUG must be True or False, not 1"),
        ({"PORT": True}, "PORT must be a whole number from 0 to 65535, not True"),
        ({"PORT": 65536}, "PORT must be a whole number from 0 to 65535, not 65536"),
        ({"PORT": "8765"}, "PORT must be a whole number from 0 to 65535, not '8765'"),
        ({"SMTP_PORT": 0}, "SMTP_PORT must be a whole number from 1 to 65535"),
        ({"PAGE_SIZE": 0}, "PAGE_SIZE must be a whole number from 1 to 32000"),
        ({"PAGE_SIZE": 32001}, "PAGE_SIZE must be a whole number from 1 to 32000"),
        ({"PAGE_SIZE": 5000.0}, "PAGE_SIZE must be a whole number"),
        ({"SLOW_REQUEST": 0}, "SLOW_REQUEST must be a whole number from 1"),
        ({"FAST_WORKERS": 0}, "FAST_WORKERS must be a whole number from 1 to 64"),
        ({"SLOW_WORKERS": 65}, "SLOW_WORKERS must be a whole number from 1 to 64"),
        ({"CACHE_TIME": -1}, "CACHE_TIME must be a whole number"),
        ({"KEEP_TIME": 86399}, "KEEP_TIME must not be less than CACHE_TIME"),
        ({"READ_TIMEOUT": 0}, "READ_TIMEOUT must be a number of seconds"),
        ({"READ_TIMEOUT": float("nan")}, "READ_TIMEOUT must be a number of seconds"),
        ({"CONNECT_TIMEOUT": True}, "CONNECT_TIMEOUT must be a number of seconds"),
        ({"HOST": "http://localhost"}, "HOST must be the name or address of a host"),
        ({"HOST": "localhost:8765"}, "HOST must be the name or address of a host"),
        ({"HOST": ""}, "HOST must be the name or address of a host"),
        ({"SMTP_HOST": "mail:587"}, "SMTP_HOST must be the name or address of a host"),
        ({"SMTP_SECURITY": "ssl"}, "SMTP_SECURITY must be one of 'none', 'starttls', 'tls', not 'ssl'"),
        ({"STORE_DIRECTORY": "store"}, "STORE_DIRECTORY must be the full path of a folder"),
        ({"TEMP_DIRECTORY": ""}, "TEMP_DIRECTORY must be the full path of a folder"),
        ({"STATS_DB": "sqlite:///:memory:"}, "STATS_DB must name a file"),
        ({"STATS_DB": "sqlite:///"}, "STATS_DB must name a file"),
        ({"STATS_DB": "sqlite:////x?mode=memory"}, "STATS_DB must name a file"),
        ({"STATS_DB": "sqlite://"}, "STATS_DB must begin with sqlite:///"),
        ({"STATS_DB": "mysql://a:b@c/d"}, "STATS_DB must begin with sqlite:///"),
        ({"PUBLIC_URL": "data.example.org"}, "PUBLIC_URL must be an address such as"),
        ({"PUBLIC_URL": "ftp://data.example.org"}, "PUBLIC_URL must be an address such as"),
        ({"PUBLIC_URL": "https://data.example.org/?a=b"}, "PUBLIC_URL must be an address such as"),
        ({"PUBLIC_URL": "https://data.example.org:99999"}, "PUBLIC_URL must be an address such as"),
        ({"PUBLIC_URL": "https://data example.org"}, "PUBLIC_URL must be an address such as"),
        ({"PUBLIC_URL": "https://[::1"}, "PUBLIC_URL must be an address such as"),
        ({"CKAN_HOSTS": "data.example.org"}, "CKAN_HOSTS must be a list"),
        ({"CKAN_HOSTS": ["https://data.example.org"]}, "CKAN_HOSTS must list hosts as"),
        ({"CKAN_HOSTS": ["data.example.org/"]}, "CKAN_HOSTS must list hosts as"),
        ({"CKAN_HOSTS": ["data.example.org:0"]}, "CKAN_HOSTS must list hosts as"),
        ({"CKAN_HOSTS": ["data.example.org:65536"]}, "CKAN_HOSTS must list hosts as"),
        ({"CKAN_HOSTS": ["user@data.example.org"]}, "CKAN_HOSTS must list hosts as"),
        ({"CKAN_HOSTS": ["::1"]}, "CKAN_HOSTS must list hosts as"),
        ({"CKAN_HOSTS": ["[1::2::3]"]}, "CKAN_HOSTS must list hosts as"),
        ({"CKAN_HOSTS": [5]}, "CKAN_HOSTS must be text"),
        ({"ZIP_COMMAND": "/usr/bin/zip {output}"}, "ZIP_COMMAND must be a command with {input} and {output}"),
        ({"ZIP_COMMAND": "zip -j '{output} {input}'"}, "ZIP_COMMAND must be a command with {input}"),
        ({"ZIP_COMMAND": "zip '{output} {input}"}, "ZIP_COMMAND cannot be split into words"),
        ({"ZIP_COMMAND": ""}, "ZIP_COMMAND must not be empty"),
        ({"EMAIL_SUBJECT": "a\nBcc: everybody@example.org"}, "EMAIL_SUBJECT must be a single line"),
        ({"EMAIL_FROM": "a@b.example\r\nX: y"}, "EMAIL_FROM must be a single line"),
        ({"EMAIL_BODY": None}, "EMAIL_BODY must be text"),
        ({"SUCCESS_MESSAGE": " "}, "SUCCESS_MESSAGE must not be empty"),
        ({"DWC_ADDITIONAL_EXTENSIONS": [""]}, "DWC_ADDITIONAL_EXTENSIONS must not be empty"),
        ({"DWC_EXTENSION_FIELDS": []}, "DWC_EXTENSION_FIELDS must be a dictionary"),
        ({"DWC_EXTENSION_FIELDS": {"m": "x"}}, "DWC_EXTENSION_FIELDS must lead from names of fields"),
        ({"DWC_EXTENSION_FIELDS": {"m": {"fields": {}}}}, "DWC_EXTENSION_FIELDS ['m'] must have 'extension'"),
        (
            {"DWC_EXTENSION_FIELDS": {"m": {"extension": "x"}}},
            "DWC_EXTENSION_FIELDS ['m'] must have a dictionary as 'fields'",
        ),
        (
            {"DWC_EXTENSION_FIELDS": {"m": {"extension": "x", "fields": {}, "mappings": []}}},
            "DWC_EXTENSION_FIELDS ['m'] must have a dictionary as 'mappings'",
        ),
        (
            {"DWC_EXTENSION_FIELDS": {"m": {"extension": "x", "fields": {}, "mapping": {}}}},
            "DWC_EXTENSION_FIELDS ['m'] has 'mapping'",
        ),
        (
            {"DWC_EXTENSION_FIELDS": {"m": {"extension": "x", "fields": {"a": print}}}},
            "DWC_EXTENSION_FIELDS must hold text, numbers, lists and dictionaries alone",
        ),
    ],
)
def test_unfit_value_is_refused_by_the_name_of_its_setting(values, says):
    (line,) = problems(**values)
    assert line.startswith(f"settings: {says}")
    assert line.endswith(".")


@pytest.mark.parametrize("unmistakable", ["PAGE_SIZES", "PAGESIZE", "SMTP_PASWORD", "EMAIL_BODYHTML"])
def test_unknown_name_is_answered_with_the_nearest_known_one(unmistakable):
    (line,) = problems(**{unmistakable: 1})
    assert re.search(r"is not a setting: the nearest is (PAGE_SIZE|SMTP_PASSWORD|EMAIL_BODY_HTML)\.$", line)


def test_unknown_name_like_no_other_is_told_how_to_stay():
    assert problems(XYZZY=1) == [
        "settings: XYZZY is not a setting: remove it, or write it in lower case if it is the file's own."
    ]


@given(st.sampled_from(NAMES), st.data())
def test_name_with_a_letter_missing_is_never_ignored(name, data):
    at = data.draw(st.integers(0, len(name) - 1))
    misspelt = name[:at] + name[at + 1 :]
    assume(misspelt not in NAMES)
    (line,) = problems(**{misspelt: 1})
    assert line.startswith(f"settings: {misspelt} is not a setting: the nearest is ")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.just(print),
    lambda parts: st.lists(parts) | st.dictionaries(st.text() | st.integers(), parts) | st.tuples(parts),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(NAMES), anything, max_size=4))
def test_any_values_give_settings_or_sentences_that_name_them(values):
    try:
        settings = Settings.from_mapping({"SECRET": SECRET, **values})
    except SettingsError as refusal:
        for line in str(refusal).split(".\n"):
            assert re.match(r"settings: (\w+) ", line)[1] in {*values, "KEEP_TIME"}
    else:
        assert pickle.loads(pickle.dumps(settings)) == settings


# Templates.

style_sheets = st.sampled_from(
    ["p {color: red}", "@media print {p{margin: 0}}", "{}", "{ doi }", "{0}", "{Doi}"]
)
plain = st.text(string.ascii_letters + " \n.:/<>")


@pytest.mark.parametrize("name", ["EMAIL_BODY", "EMAIL_BODY_HTML", "FAILURE_BODY", "FAILURE_BODY_HTML"])
@given(st.lists(plain | style_sheets | st.sampled_from([f"{{{name}}}" for name in PLACEHOLDERS])))
def test_template_of_known_placeholders_and_other_braces_is_taken_as_it_is(name, parts):
    template = "|".join(parts)
    assert getattr(of(**{name: template}), name) == template


@given(plain, st.sampled_from(PLACEHOLDERS), st.data())
def test_misspelt_placeholder_is_named_with_the_nearest_known_one(text, name, data):
    at = data.draw(st.integers(0, len(name) - 1))
    misspelt = name[:at] + "x" + name[at:]
    (line,) = problems(EMAIL_BODY=f"{text}{{{misspelt}}}{text}")
    assert line.startswith(f"settings: EMAIL_BODY has the placeholder {{{misspelt}}}, which is not known")
    near = re.search(r"the nearest is \{(\w+)\}\.$", line)
    assert near is None or near[1] in PLACEHOLDERS
    assert near is not None or len(name) < 4


def test_doubled_braces_of_older_files_are_no_placeholders():
    of(EMAIL_BODY="body {{color}} {doi} {{{doi}}}")
    assert "{color}" in problems(EMAIL_BODY="{{{color}}}")[0]


def test_every_template_is_checked():
    templates = [name for name in NAMES if name.startswith(("EMAIL_", "DOI_", "FAILURE_"))]
    assert len(templates) == 9
    for name in templates:
        assert problems(**{name: "{no_such_thing}"})[0].startswith(f"settings: {name} has the placeholder")


def test_error_is_a_placeholder_of_failures_alone():
    of(FAILURE_SUBJECT="{error}", FAILURE_BODY="{error}", FAILURE_BODY_HTML="{error}")
    assert "{error}" in problems(EMAIL_BODY="{error}")[0]


def test_paragraph_about_the_doi_cannot_hold_itself():
    assert "{doi_body}" in problems(DOI_BODY="see {doi} {doi_body}")[0]


def test_default_mail_says_all_that_a_visitor_needs():
    settings = of()
    for name in ("download_url", "size", "rows", "expires", "status_url", "ckan_host", "doi_body", "report"):
        assert f"{{{name}}}" in settings.EMAIL_BODY
    for name in ("error", "status_url", "ckan_host", "resource_id"):
        assert f"{{{name}}}" in settings.FAILURE_BODY
    assert settings.EMAIL_SUBJECT == "Resource from {ckan_host}"
    assert settings.EMAIL_BODY_HTML is None
    assert set(FAILURE_PLACEHOLDERS) - set(PLACEHOLDERS) == {"error"}


# What the values become.

labels = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,8}[a-zA-Z0-9])?", fullmatch=True)
hosts = st.lists(labels, min_size=1, max_size=4).map(".".join) | st.ip_addresses(v=6).map("[{}]".format)
ports = st.just("") | st.integers(1, 65535).map(":{}".format)


@given(st.lists(st.tuples(hosts, ports).map("".join)))
def test_hosts_are_kept_once_and_in_lower_case(entries):
    kept = of(CKAN_HOSTS=entries).CKAN_HOSTS
    assert list(kept) == list(dict.fromkeys(entry.lower() for entry in entries))


@given(st.text())
def test_host_that_is_taken_is_a_host_and_nothing_else(entry):
    try:
        (host,) = of(CKAN_HOSTS=[entry]).CKAN_HOSTS
    except SettingsError:
        return
    assert not set(host) & set("/@?# \t\n\\\"'")
    assert host == entry.lower()


@given(st.sampled_from(["http", "https"]), hosts, ports, st.lists(labels), st.integers(0, 3))
def test_public_url_is_the_setting_without_its_last_slash(scheme, host, port, path, slashes):
    url = "/".join([f"{scheme}://{host}{port}", *path])
    assert of(PUBLIC_URL=url + "/" * slashes).public_url == url


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8765"),
        ("packages.example.org", "http://packages.example.org:8765"),
        ("::1", "http://[::1]:8765"),
        ("0.0.0.0", f"http://{socket.getfqdn()}:8765"),
        ("::", f"http://{socket.getfqdn()}:8765"),
    ],
)
def test_without_a_public_url_links_lead_to_host_and_port(host, url):
    assert of(HOST=host).public_url == url


def test_cache_time_is_always_at_least_a_second():
    assert of(CACHE_TIME=0).CACHE_TIME == 1


def test_long_cache_time_of_an_older_file_lengthens_the_keeping():
    settings = of(CACHE_TIME=30 * 86400)
    assert settings.KEEP_TIME == 30 * 86400
    assert "KEEP_TIME is 2592000 seconds, since CACHE_TIME is." in settings.notes()


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_every_name_of_postgresql_is_understood(scheme):
    settings = of(STATS_DB=f"{scheme}://me:word@db.example/stats")
    assert settings.STATS_DB == "postgresql://me:word@db.example/stats"
    assert settings.stats_file is None


def test_stats_file_is_the_one_that_the_url_names():
    assert of(STATS_DB="sqlite:////var/lib/x.db?timeout=5").stats_file == Path("/var/lib/x.db")
    assert of(STATS_DB="sqlite:///x.db").stats_file == Path.cwd() / "x.db"


# The object.


def test_settings_cannot_be_changed():
    settings = of()
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.PORT = 1


def test_settings_do_not_change_with_what_they_were_made_of():
    fields = {"media": {"extension": "multimedia", "fields": {"type": ""}}}
    hosts = ["data.example.org"]
    settings = of(DWC_EXTENSION_FIELDS=fields, CKAN_HOSTS=hosts)
    fields["media"]["fields"]["type"] = "Sound"
    hosts.append("evil.example.org")
    assert settings.DWC_EXTENSION_FIELDS["media"]["fields"]["type"] == ""
    assert settings.CKAN_HOSTS == ("data.example.org",)


def test_settings_of_a_file_can_be_sent_to_another_process(tmp_path):
    settings = Settings.load(written(tmp_path, OLD_FILE))
    assert pickle.loads(pickle.dumps(settings)) == settings


words = st.text(string.ascii_letters + string.digits, min_size=12)


@given(words, words, words, words)
def test_no_secret_is_ever_shown(secret, password, database, broker):
    url = f"postgresql://me:{database}@db.example/stats?password={database}"
    values = {"SMTP_PASSWORD": password, "STATS_DB": url, "CELERY_BROKER": f"redis://:{broker}@localhost/0"}
    settings = of(SECRET=secret, **values)
    shown = f"{settings!r}{settings}{settings.notes()}"
    for hidden in (secret, password, database, broker):
        assume(hidden not in repr(of()))
        assert hidden not in shown
    assert "PORT=8765" in shown


@given(words)
def test_no_secret_is_shown_in_a_refusal(word):
    values = {"STATS_DB": f"mysql://me:{word}@db.example/stats", "SMTP_PASSWORD": word.encode()}
    assert not any(word in line for line in problems(**values))
    assert not any(word in line for line in problems(SECRET=[word]))


def test_login_that_anybody_could_overhear_is_noted():
    login = {"SMTP_LOGIN": "me", "SMTP_PASSWORD": "x", "SMTP_HOST": "mail.example.org"}
    note = "SMTP_PASSWORD goes to mail.example.org unencrypted: set SMTP_SECURITY."
    assert note in of(**login).notes()
    assert note not in of(**login, SMTP_SECURITY="tls").notes()


def test_careful_settings_leave_nothing_to_note():
    assert (
        of(
            PUBLIC_URL="https://packages.example.org",
            EMAIL_FROM="Data Portal <portal@example.org>",
            STORE_DIRECTORY="/var/lib/ckanpackager/store",
        ).notes()
        == []
    )


# The folders.


def folders(tmp_path, **values):
    return of(
        **{
            "STORE_DIRECTORY": tmp_path / "a" / "store",
            "TEMP_DIRECTORY": tmp_path / "temp",
            "STATS_DB": f"sqlite:///{tmp_path}/db/stats.db",
            **values,
        }
    )


def test_reading_settings_touches_no_disk(tmp_path):
    folders(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_folders_that_are_missing_are_made_for_us_alone(tmp_path):
    folders(tmp_path).prepare()
    for name in ("a/store", "temp", "db"):
        assert (tmp_path / name).is_dir()
        assert (tmp_path / name).stat().st_mode & 0o007 == 0
        assert list((tmp_path / name).iterdir()) == []


@pytest.mark.parametrize("name", ["STORE_DIRECTORY", "TEMP_DIRECTORY", "STATS_DB"])
def test_folder_that_cannot_be_used_is_refused_by_the_name_of_its_setting(tmp_path, name):
    (tmp_path / "file").touch()
    bad = tmp_path / "file" / "folder"
    settings = folders(tmp_path, **{name: f"sqlite:///{bad}/stats.db" if name == "STATS_DB" else bad})
    with pytest.raises(SettingsError) as refusal:
        settings.prepare()
    assert str(refusal.value) == (
        f"settings: {name} needs the folder {bad}, which cannot be used ({os.strerror(errno.ENOTDIR)}): "
        f"let the user with id {os.geteuid()} write to it, or name another."
    )


def test_all_folders_that_cannot_be_used_are_refused_at_once(tmp_path):
    settings = folders(tmp_path, STORE_DIRECTORY="/proc/store", TEMP_DIRECTORY="/proc")
    with pytest.raises(SettingsError) as refusal:
        settings.prepare()
    lines = str(refusal.value).splitlines()
    assert [line.split()[1] for line in lines] == ["STORE_DIRECTORY", "TEMP_DIRECTORY"]


def test_disk_that_is_full_is_no_matter_of_settings(tmp_path):
    folders(tmp_path).prepare()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        folders(tmp_path).prepare()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_database_that_is_not_a_file_is_refused(tmp_path):
    (tmp_path / "db" / "stats.db").mkdir(parents=True)
    with pytest.raises(SettingsError, match=r"STATS_DB names .*/db/stats\.db, which is not a file"):
        folders(tmp_path).prepare()


def test_zip_command_that_is_not_installed_is_refused(tmp_path):
    settings = folders(tmp_path, ZIP_COMMAND="/no/such/zip {output} {input}")
    with pytest.raises(SettingsError, match="ZIP_COMMAND needs /no/such/zip: install it, or"):
        settings.prepare()


# The table.


def test_example_file_is_the_table():
    text = EXAMPLE.read_text(encoding="utf-8")
    assert text == example(), (
        "Write it anew: python -c 'from ckanpackager.settings import example; print(example(), end=str())' "
        "> etc/ckanpackager_settings.py"
    )


def test_example_file_names_every_setting_once_with_its_default():
    text = EXAMPLE.read_text(encoding="utf-8")
    named = re.findall(r"^([A-Z_]+) = ", text, re.MULTILINE)
    assert named == NAMES
    names = {}
    exec(compile(text, EXAMPLE, "exec"), names)
    for setting in SETTINGS:
        if setting.name != "SECRET":
            assert names[setting.name] == setting.default, setting.name


def test_example_file_starts_nothing_until_its_secret_is_changed(tmp_path):
    with pytest.raises(SettingsError) as refusal:
        Settings.load(EXAMPLE)
    (line,) = str(refusal.value).splitlines()
    assert "SECRET is still the published example" in line
    text = EXAMPLE.read_text(encoding="utf-8").replace(module.PUBLISHED_SECRET, SECRET)
    changed = Settings.load(written(tmp_path, text))
    assert dataclasses.replace(changed, source="", given=frozenset()) == dataclasses.replace(
        of(), source="", given=frozenset()
    )


def test_every_setting_has_help_that_ends_like_a_sentence():
    for setting in SETTINGS:
        assert re.search(r"[.}]$", setting.help), setting.name


def test_reference_has_a_row_for_every_setting():
    table = reference()
    assert re.findall(r"^   \* - ``([A-Z_]+)``$", table, re.MULTILINE) == NAMES
    for setting in SETTINGS:
        for line in setting.help.splitlines():
            assert line in table
