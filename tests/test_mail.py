"""Mail: what is in it, who it goes to, and what becomes of it when the mail server will not have it."""

import base64
import html.parser
import json
import logging
import pickle
import re
import string
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from ckanpackager import figures
from ckanpackager.errors import MailDelayedError, MailError
from ckanpackager.notify import NOTIFIERS, Notice, notify
from ckanpackager.notify.mail import compose, probe, send
from ckanpackager.notify.markup import from_text
from ckanpackager.notify.message import mailbox
from ckanpackager.notify.template import fill
from ckanpackager.settings import FAILURE_PLACEHOLDERS, Settings
from tests.sinks import DROP, HANG, Sink, smtp_sink, unused_port

quick = effort(max_examples=40)

READY = Notice(
    kind="ready",
    job_id="5f2b8c1e9d3a47f0a6b1c2d3e4f50617",
    email="someone@localhost.example",
    resource_id="48cf7ddd-0bab-4a04-8c2f-162b57fa788c",
    zip_file_name="penguins-2025-11-24-Zk3v9Q.zip",
    ckan_host="data.example.org",
    download_url="https://packages.example.org/download/penguins-2025-11-24-Zk3v9Q.zip",
    status_url="https://packages.example.org/jobs/5f2b8c1e9d3a47f0a6b1c2d3e4f50617",
    rows=1234567,
    size=1_400_000,
    sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    expires=1764602880,
    report="All rows that matched are in it.",
)
FAILED = Notice(
    kind="failed",
    job_id=READY.job_id,
    email=READY.email,
    resource_id=READY.resource_id,
    ckan_host=READY.ckan_host,
    status_url=READY.status_url,
    error="data.example.org: Not Found: Resource <x> was not found.",
)
NOW = datetime(2025, 11, 24, 15, 28, tzinfo=UTC)


def settings(**values: object) -> Settings:
    return Settings.from_mapping(
        {"SECRET": "not a secret", "EMAIL_FROM": "bot@packages.example.org"} | values
    )


def changed(notice: Notice, **values: object) -> Notice:
    return Notice.from_dict(notice.to_dict() | values)


def received(message: EmailMessage) -> EmailMessage:
    """*message* as the reader's program sees it."""
    return message_from_bytes(message.as_bytes(), policy=policy.default)  # type: ignore[return-value]


def decoded(message: EmailMessage, name: str) -> str:
    """A header as RFC 2047 has it read. Python's newer parser puts spaces into long names."""
    raw = message_from_bytes(message.as_bytes(), policy=policy.compat32)[name]
    return str(make_header(decode_header(raw.replace("\r\n", ""))))


def text_of(message: EmailMessage) -> str:
    return body(message, "plain")


def html_of(message: EmailMessage) -> str:
    return body(message, "html")


def body(message: EmailMessage, kind: str) -> str:
    return received(message).get_body((kind,)).get_content().replace("\r\n", "\n")


class Reader(html.parser.HTMLParser):
    """What a mail reader shows of a page: its text, and where its links lead."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text = ""
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value for name, value in attributes if name == "href" and value]

    def handle_data(self, data: str) -> None:
        self.text += data


# Templates


NAMES = st.sampled_from(["resource_id", "doi", "rows"])
AWKWARD = st.text(alphabet=st.sampled_from("{}rowsdi_é %$\n"), max_size=12) | st.sampled_from(
    ["{rows}", "{{doi}}", "{resource_id}", "{0}", "{__class__}", "{}", "{", "}"]
)
VALUES = st.fixed_dictionaries({"resource_id": AWKWARD, "doi": AWKWARD, "rows": AWKWARD})
LITERALS = st.text(alphabet=st.characters(exclude_characters="{}"), max_size=8)


@given(st.lists(LITERALS | NAMES.map(lambda name: (name,))), VALUES)
def test_values_come_through_unchanged_whatever_braces_they_hold(parts, values):
    template = "".join(part if isinstance(part, str) else f"{{{part[0]}}}" for part in parts)
    expected = "".join(part if isinstance(part, str) else values[part[0]] for part in parts)
    assert fill(template, values) == expected
    assert fill("p { color: red } " + template, values) == "p { color: red } " + expected


@given(st.lists(LITERALS | st.sampled_from(["{{", "}}"]) | NAMES.map("{{{}}}".format)).map("".join), VALUES)
def test_a_template_written_for_str_format_gives_what_str_format_gave(template, values):
    assert fill(template, values) == template.format(**values)


@given(st.text(alphabet=st.sampled_from("{}rows .!:[]0"), max_size=20))
def test_no_template_is_refused_and_nothing_but_braces_changes_in_it(template):
    single = template.replace("{{", "{").replace("}}", "}")
    assert fill(template, {"rows": "{rows}"}) in (template, single)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{rows} rows", "344 rows"),
        ("{{rows}} are {rows}", "{rows} are 344"),
        ("p {{ color: red }} {rows}", "p { color: red } 344"),
        ("p { color: red } {rows}", "p { color: red } 344"),
        ("p {color:red} {{rows}}", "p {color:red} {344}"),
        ("{rows} {unknown}", "344 {unknown}"),
        ("{rows} {unknown} {{", "344 {unknown} {{"),
        ("{rows!r} {rows:>9} {rows.real} {rows[0]} {}", "{rows!r} {rows:>9} {rows.real} {rows[0]} {}"),
        ("{rows:>9}", "{rows:>9}"),
        ("{rows!r} {{", "{rows!r} {{"),
        ("{ rows } { {rows}", "{ rows } { 344"),
    ],
)
def test_doubled_braces_are_one_only_where_all_braces_could_be_meant_so(template, expected):
    assert fill(template, {"rows": "344"}) == expected


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (figures.count(0), "0"),
        (figures.count(344), "344"),
        (figures.count(1234567), "1,234,567"),
        (figures.count(None), "\N{EN DASH}"),
        (figures.size(0), "0 bytes"),
        (figures.size(1), "1 byte"),
        (figures.size(999), "999 bytes"),
        (figures.size(1400), "1.4 kB"),
        (figures.size(999_949), "999.9 kB"),
        (figures.size(999_950), "1.0 MB"),
        (figures.size(1_400_000), "1.4 MB"),
        (figures.size(32_000_000_000), "32.0 GB"),
        (figures.size(2**63), "9.2 EB"),
        (figures.size(None), "\N{EN DASH}"),
        (figures.moment(0), "1 January 1970, 00:00 UTC"),
        (figures.moment(1764602880), "1 December 2025, 15:28 UTC"),
        (figures.moment(None), "\N{EN DASH}"),
    ],
)
def test_numbers_and_times_are_written_as_people_read_them(shown, expected):
    assert shown == expected


def test_times_are_utc_wherever_the_service_runs(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert figures.moment(0) == "1 January 1970, 00:00 UTC"
    finally:
        monkeypatch.undo()
        time.tzset()


# What is in a mail


def test_every_placeholder_of_the_settings_is_filled_in():
    every = " ".join(f"{name}={{{name}}}" for name in FAILURE_PLACEHOLDERS)
    conf = settings(FAILURE_BODY=every, DOI_BODY="cite {doi}", DOI_BODY_HTML="<i>{doi}</i>")
    text = text_of(compose(conf, changed(READY, kind="failed", doi="10.5072/a", error="it rained")))
    for part in (
        "resource_id=48cf7ddd-0bab-4a04-8c2f-162b57fa788c ",
        "zip_file_name=penguins-2025-11-24-Zk3v9Q.zip ",
        "ckan_host=data.example.org ",
        "doi=10.5072/a ",
        "doi_body=cite 10.5072/a ",
        "doi_body_html=<i>10.5072/a</i> ",
        "download_url=https://packages.example.org/download/penguins-2025-11-24-Zk3v9Q.zip ",
        "status_url=https://packages.example.org/jobs/5f2b8c1e9d3a47f0a6b1c2d3e4f50617 ",
        "rows=1,234,567 ",
        "size=1.4 MB ",
        "sha256=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 ",
        "expires=1 December 2025, 15:28 UTC ",
        "report=All rows that matched are in it. ",
        "error=it rained",
    ):
        assert part in text + " "
    assert text.count("=") == len(FAILURE_PLACEHOLDERS)


def test_the_error_is_a_placeholder_only_of_the_mail_about_a_failure():
    page = "p { color: red } {{error}} {rows}"
    message = compose(settings(EMAIL_BODY=page), changed(READY, error="it rained"))
    assert text_of(message) == "p { color: red } {{error}} 1,234,567\n"


def test_seeds_own_templates_read_as_they_did():
    conf = settings(
        EMAIL_SUBJECT="Resource from {ckan_host}",
        EMAIL_BODY="Hello,\n\nThe link is available at:\nhttp://{ckan_host}/{zip_file_name}\n\nThe Bot\n",
    )
    message = compose(conf, changed(READY, zip_file_name="a.zip"))
    assert message["Subject"] == "Resource from data.example.org"
    assert (
        text_of(message) == "Hello,\n\nThe link is available at:\nhttp://data.example.org/a.zip\n\nThe Bot\n"
    )


def test_default_mail_has_the_link_and_leaves_no_gap_where_a_value_is_empty():
    message = compose(settings(), changed(READY, report=None))
    for said in (text_of(message), Reader(html_of(message)).text):
        assert READY.download_url in said
        assert "Rows: 1,234,567" in said
        assert "1 December 2025, 15:28 UTC" in said
    assert "\n\n\n" not in text_of(message)
    assert {READY.download_url, READY.status_url} == set(Reader(html_of(message)).links)


def test_failure_is_mailed_with_its_own_templates_and_reason():
    message = compose(settings(), FAILED)
    assert message["Subject"] == "The resource from data.example.org could not be packaged"
    assert FAILED.error in text_of(message)
    assert FAILED.error in Reader(html_of(message)).text
    conf = settings(FAILURE_SUBJECT="No: {error}", FAILURE_BODY="b", FAILURE_BODY_HTML="<p>{error}</p>")
    message = compose(conf, FAILED)
    assert message["Subject"] == f"No: {FAILED.error}"
    assert html_of(message) == "<p>data.example.org: Not Found: Resource &lt;x&gt; was not found.</p>\n"


def test_doi_parts_are_there_only_when_a_doi_came():
    conf = settings(
        EMAIL_BODY="[{doi_body}]",
        EMAIL_BODY_HTML="[{doi_body_html}]",
        DOI_BODY="Cite {doi}, {rows} rows",
        DOI_BODY_HTML='<a href="https://doi.org/{doi}">{doi}</a>',
    )
    with_doi = compose(conf, changed(READY, doi="10.5072/<a&b>"))
    assert text_of(with_doi) == "[Cite 10.5072/<a&b>, 1,234,567 rows]\n"
    escaped = "10.5072/&lt;a&amp;b&gt;"
    assert html_of(with_doi) == f'[<a href="https://doi.org/{escaped}">{escaped}</a>]\n'
    without = compose(conf, READY)
    assert (text_of(without), html_of(without)) == ("[]\n", "[]\n")


def test_values_are_escaped_in_html_templates_and_never_filled_in_again():
    conf = settings(EMAIL_BODY="{report}", EMAIL_BODY_HTML='<b title="{report}">{report}</b>')
    message = compose(conf, changed(READY, report="""<script>"{rows}" & '{doi_body_html}'</script>"""))
    assert text_of(message) == """<script>"{rows}" & '{doi_body_html}'</script>\n"""
    escaped = "&lt;script&gt;&quot;{rows}&quot; &amp; &#x27;{doi_body_html}&#x27;&lt;/script&gt;"
    assert html_of(message) == f'<b title="{escaped}">{escaped}</b>\n'


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"])))
@example("<script>alert(1)</script> http://x.example/<img src=x>")
@example('http://x.example/"onmouseover="alert(1)')
def test_page_made_from_text_shows_that_text_and_brings_in_no_markup(text):
    page = Reader(from_text(text, title="t", download_url="", label=""))
    assert page.tags <= {"html", "head", "meta", "title", "body", "table", "tr", "td", "p", "a", "br"}
    assert "".join(text.split()) in "".join(page.text.split())
    assert all(link.startswith(("http://", "https://")) for link in page.links)


@pytest.mark.parametrize(
    ("sentence", "links"),
    [
        ("See https://a.example/b.", ["https://a.example/b"]),
        ("(http://a.example/b_(c)) or [https://d.example/?x=1&copy=2]!", None),
        ("<https://a.example/b>, 'https://c.example/d'", ["https://a.example/b", "https://c.example/d"]),
        ("javascript:alert(1) ftp://a.example www.a.example", []),
        ("https://a.example/token_-", ["https://a.example/token_-"]),
    ],
)
def test_links_end_where_the_sentence_round_them_goes_on(sentence, links):
    if links is None:
        links = ["http://a.example/b_(c)", "https://d.example/?x=1&copy=2"]
    assert Reader(from_text(sentence, title="t", download_url="", label="")).links == links


def test_download_link_on_its_own_line_is_a_button_with_the_files_name():
    page = from_text(
        "Here:\nhttp://x.example/a.zip\nBye", title="t", download_url="http://x.example/a.zip", label="a.zip"
    )
    assert Reader(page).links == ["http://x.example/a.zip"] * 2
    assert Reader(page).text.split()[1:] == ["Here:", "⇩", "a.zip", "http://x.example/a.zip", "Bye"]


def test_title_and_button_bring_in_no_markup():
    url = "http://x.example/?a&copy=1"
    page = Reader(from_text(url, title="<b>", download_url=url, label="<i>"))
    assert {"b", "i"}.isdisjoint(page.tags)
    assert page.links == [url] * 2


@pytest.mark.parametrize("repeats", [1, 8])
def test_letters_of_every_script_arrive_in_subject_text_and_html(repeats):
    said = "Ñandú, 企鹅, بطريق, 🐧 " * repeats
    conf = settings(EMAIL_SUBJECT=f"{said[:100]}!", EMAIL_BODY=said, EMAIL_BODY_HTML=f"<p>{said}</p>")
    message = compose(conf, READY)
    assert message.as_bytes().isascii()
    assert max(map(len, message.as_bytes().split(b"\r\n"))) <= 78
    assert received(message)["Subject"] == f"{said[:100]}!"
    assert text_of(message) == f"{said}\n"
    assert html_of(message) == f"<p>{said}</p>\n"


WORDS = st.text(
    alphabet=st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=90
).filter(lambda word: "=?" not in word)
LINES = st.lists(WORDS | st.sampled_from(["Ñandú,", "企" * 30, "x" * 90, "é" * 60]), min_size=1, max_size=8)


@quick
@given(LINES.map(lambda words: " ".join(words)[:200].strip()))
@example("=x= Portal Data " + "x" * 40 + " =x= ü ü")
@example("a " + "x" * 90 + " " + "é" * 30 + " 企鹅 ? ü")
def test_every_subject_arrives_as_it_was(line):
    message = compose(settings(EMAIL_SUBJECT="{doi}"), changed(READY, doi=line))
    assert decoded(message, "Subject").strip() == line
    if len(line) < 60:
        assert received(message)["Subject"] == line


@pytest.mark.parametrize(
    "name",
    ["国立科学博物館標本・資料統合データベース", "é" * 60, "Müller, Jörg", "é <c@d.example>", "x" * 90],
)
def test_senders_name_arrives_as_it_was(name):
    message = compose(settings(EMAIL_FROM=f'"{name}" <bot@b.example>'), READY)
    assert decoded(message, "From").strip().replace('"', "") == f"{name} <bot@b.example>"
    assert [address.addr_spec for address in received(message)["From"].addresses] == ["bot@b.example"]


def test_what_no_mail_may_hold_is_replaced():
    message = compose(settings(EMAIL_BODY="{report}"), changed(READY, report="a\0b\ud800c\r\nd\x1b"))
    assert text_of(message) == "a\ufffdb\ufffdc\nd\ufffd\n"
    assert "a\ufffdb\ufffdc" in html_of(message)


# Headers


def test_a_notice_always_becomes_the_same_message():
    conf = settings()
    ids = [
        compose(conf, notice)["Message-ID"]
        for notice in (
            READY,
            changed(READY, rows=None, size=None, report="other"),
            changed(READY, kind="failed"),
            changed(READY, email="another@localhost.example"),
            changed(READY, job_id="0" * 32),
        )
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 4
    assert ids[0].endswith("@packages.example.org>")
    assert compose(conf, READY, now=NOW)["Date"].datetime == NOW


def test_mail_says_that_no_person_wrote_it():
    message = compose(settings(), READY)
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["X-Auto-Response-Suppress"] == "All"


@pytest.mark.parametrize(
    ("given_from", "sender"),
    [
        ("bot@nhm.example", "bot@nhm.example"),
        ("The Data Portal <data@nhm.example>", "The Data Portal <data@nhm.example>"),
        ('"Portal, the" <data@nhm.example>', '"Portal, the" <data@nhm.example>'),
        ("Pörtal, the <data@nhm.example>", None),
        ("noreply@{ckan_host}", "noreply@data.example.org"),
        ("{ckan_host} <noreply@{ckan_host}>", '"data.example.org" <noreply@data.example.org>'),
        ("bot@bücher.example", "bot@xn--bcher-kva.example"),
        ("root@localhost", "root@localhost"),
    ],
)
def test_sender_is_the_address_of_email_from(given_from, sender):
    message = received(compose(settings(EMAIL_FROM=given_from), READY))
    if sender is not None:
        assert message["From"] == sender
    assert len(message["From"].addresses) == 1


@pytest.mark.parametrize("nobody", ["(nobody)", "The Portal", "a@b@c", "bot@[127.0.0.1]", "@"])
def test_sender_without_an_address_is_the_packager_on_this_host(nobody):
    [sender] = compose(settings(EMAIL_FROM=nobody), READY)["From"].addresses
    assert sender.username == "ckanpackager"
    assert sender.domain
    assert not sender.display_name


@pytest.mark.parametrize(
    "address",
    [
        "",
        "nobody",
        "a@b.example, c@d.example",
        "a@b.example,c@d.example",
        "a@b.example c@d.example",
        "Someone <a@b.example>",
        "a@b.example\nBcc: c@d.example",
        "a@b.example\r\nBcc: c@d.example",
        "a@b.example\n",
        "a\0@b.example",
        "a@b@c.example",
        "group: a@b.example;",
        "a@[127.0.0.1]",
        '"a b"@c.example',
        "a@b.example (c@d.example)",
        "a\u2028@b.example",
        "a\u202e@b.example",
        "a\ud800@b.example",
        "=?utf-8?q?a=0D=0ABcc=3A_c=40d.example?=@b.example",
        "a@=?utf-8?q?b=0ABcc=3Ac?=",
        "a@-bücher-.example",
    ],
)
def test_what_is_not_one_plain_address_is_refused(address):
    with pytest.raises(MailError, match="cannot be sent") as refusal:
        compose(settings(), changed(READY, email=address))
    assert not isinstance(refusal.value, MailDelayedError)


ATTACKS = st.lists(
    st.text(max_size=10)
    | st.sampled_from(
        [
            "\r\n",
            "\n",
            "\r",
            "\x85",
            "\u2028",
            "\x0b",
            "Bcc: c@d.example",
            "=?utf-8?q?=0D=0ABcc:_c=40d.example?=",
        ]
    )
    | st.sampled_from(["=?utf-8?b?DQpCY2M6IGM=?=", "=", "?", "<c@d.example>", ",", '"', "(", " "])
).map("".join)


@quick
@given(ATTACKS, ATTACKS, ATTACKS)
@example("=?utf-8?q?a=0D=0ABcc:_c=40d.example?=", "=?utf-8?q?a=0D=0ABcc:_c=40d.example?=", "")
@example("a\r\nBcc: c@d.example", "\n\nbody", "=?utf-8?q?a=0D=0ABcc:_c=40d.example?= <c@d.example>, ")
def test_no_value_can_add_a_header_or_a_recipient(host, doi, resource):
    conf = settings(EMAIL_SUBJECT="{ckan_host} {doi}", EMAIL_FROM="{resource_id}{ckan_host} <bot@b.example>")
    notice = changed(READY, ckan_host=host, doi=doi, resource_id=resource, zip_file_name=doi)
    raw = compose(conf, notice).as_bytes()
    head = raw.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    names = [line.partition(":")[0] for line in head if not line.startswith((" ", "\t"))]
    own = ["From", "To", "Date", "Message-ID", "Auto-Submitted", "X-Auto-Response-Suppress", "Subject"]
    assert sorted(names) == sorted([*own, "MIME-Version", "Content-Type"])
    message = message_from_bytes(raw, policy=policy.default)
    assert [address.addr_spec for address in message["To"].addresses] == [READY.email]
    assert len(message["From"].addresses) == 1
    assert "\n" not in message["Subject"]
    assert "\r" not in message["Subject"]


@quick
@given(
    st.text(
        alphabet=string.ascii_letters + string.digits + "!#$%&'*+-/=?^_`{|}~é企", min_size=1, max_size=64
    ),
    st.lists(st.text(alphabet=string.ascii_lowercase, min_size=1, max_size=60), min_size=1, max_size=4),
)
def test_every_plain_address_is_the_one_that_is_written_to(local, labels):
    address = f"{local}@{'.'.join(labels)}"
    if "=?" in local:
        with pytest.raises(MailError):
            mailbox(address)
        return
    raw = compose(settings(), changed(READY, email=address)).as_bytes().decode()
    assert re.search(rf"\r\nTo:(\r\n)? {re.escape(address)}\r\n", raw)
    if address.isascii():
        [to] = received(compose(settings(), changed(READY, email=address)))["To"].addresses
        assert to.addr_spec == address


def test_an_international_domain_is_written_in_ascii():
    message = compose(settings(), changed(READY, email="post@straße.example"))
    assert message["To"] == "post@xn--strae-oqa.example"


def test_an_overlong_subject_is_cut():
    subject = received(compose(settings(EMAIL_SUBJECT="{doi}"), changed(READY, doi="10.5072/" + "x" * 5000)))[
        "Subject"
    ]
    assert subject.endswith("x…")
    assert len(subject) == 200


# The mail server


@pytest.fixture
def sink() -> Iterator[Sink]:
    with smtp_sink() as sink:
        yield sink


def deliver(sink: Sink, notice: Notice = READY, **values: object) -> None:
    conf = settings(**(sink.settings | {"SMTP_TIMEOUT": 10} | values))
    send(conf, compose(conf, notice))


def test_mail_arrives_as_it_was_composed_with_both_addresses_on_the_envelope(sink):
    deliver(
        sink, EMAIL_FROM="Portal <bot@packages.example.org>", EMAIL_BODY="ñ\n.\n..\nFrom here\n" + "x" * 2000
    )
    [mail] = sink.wait_for(1)
    assert mail.sender == "bot@packages.example.org"
    assert mail.recipients == ("someone@localhost.example",)
    assert mail.message["To"] == "someone@localhost.example"
    assert mail.message["From"] == "Portal <bot@packages.example.org>"
    assert mail.text == "ñ\n.\n..\nFrom here\n" + "x" * 2000 + "\n"
    assert READY.resource_id not in mail.text
    assert mail.message.get_content_type() == "multipart/alternative"
    assert mail.raw.isascii()
    assert not mail.encrypted
    assert mail.login is None
    assert "QUIT" in sink.commands


def test_notifier_of_the_table_mails_and_says_so_without_the_address(sink, caplog):
    caplog.set_level(logging.INFO, "ckanpackager")
    notify("mail", settings(**sink.settings), FAILED)
    [mail] = sink.wait_for(1)
    assert mail.message["Subject"].endswith("could not be packaged")
    [record] = caplog.records
    assert record.getMessage().startswith(FAILED.resource_id)
    assert FAILED.email not in record.getMessage()


@pytest.mark.parametrize("name", NOTIFIERS)
def test_every_notifier_can_be_asked_to_notify(name, sink):
    notify(name, settings(**sink.settings), READY)
    sink.wait_for(1)


@pytest.mark.parametrize("command", ["RCPT", "DATA", "MESSAGE"])
def test_refusal_for_good_fails_the_mail_and_quotes_the_server(sink, command):
    sink.answers[command] = "550 5.1.1 <someone@localhost.example>: no such user."
    with pytest.raises(MailError) as refusal:
        deliver(sink)
    assert not isinstance(refusal.value, MailDelayedError)
    what = "the recipient" if command == "RCPT" else "the message"
    assert str(refusal.value) == (
        f"The mail server 127.0.0.1:{sink.port} did not take {what}: 550 5.1.1 <(recipient)>: no such user."
    )
    assert sink.mails == []


@pytest.mark.parametrize("command", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "MESSAGE"])
@pytest.mark.parametrize("reply", ["451 4.3.0 try later", "421 4.3.2 shutting down"])
def test_request_for_patience_delays_the_mail(sink, command, reply):
    sink.answers[command] = reply
    if command == "EHLO":
        sink.answers["HELO"] = reply
    with pytest.raises(MailDelayedError, match=f"127.0.0.1:{sink.port} .*{reply}"):
        deliver(sink)
    sink.answers.clear()
    deliver(sink)
    assert len(sink.wait_for(1)) == 1


@pytest.mark.parametrize("command", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "MESSAGE"])
def test_lost_connection_delays_the_mail(sink, command):
    sink.answers[command] = DROP
    with pytest.raises(MailDelayedError, match=f"127.0.0.1:{sink.port} closed the connection"):
        deliver(sink)


@pytest.mark.parametrize("command", ["CONNECT", "EHLO", "RCPT", "MESSAGE"])
def test_silent_server_delays_the_mail_when_the_time_is_up(sink, command):
    sink.answers[command] = HANG
    with pytest.raises(MailDelayedError, match=f"127.0.0.1:{sink.port} did not answer within 0.1 s"):
        deliver(sink, SMTP_TIMEOUT=0.1)


def test_silence_during_the_handshake_delays_the_mail(sink):
    sink.answers["CONNECT"] = HANG
    with pytest.raises(MailDelayedError, match=f"127.0.0.1:{sink.port} did not answer within 0.1 s"):
        deliver(sink, SMTP_TIMEOUT=0.1, SMTP_SECURITY="tls")


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("CONNECT", "554 no mail here"),
        ("MAIL", "550 who are you?"),
        ("RCPT", "530 5.7.0 log in first"),
        ("MESSAGE", "nonsense"),
    ],
)
def test_refusal_that_the_admin_can_mend_delays_the_mail(sink, command, reply):
    sink.answers[command] = reply
    with pytest.raises(MailDelayedError, match=f"127.0.0.1:{sink.port}"):
        deliver(sink)


def test_refused_sender_names_the_setting(sink):
    sink.answers["MAIL"] = "550 not you"
    with pytest.raises(MailDelayedError, match=r"refused the sender \(EMAIL_FROM\): 550 not you"):
        deliver(sink)


def test_server_that_is_not_there_delays_the_mail():
    with unused_port() as port:
        conf = settings(SMTP_HOST="127.0.0.1", SMTP_PORT=port)
        with pytest.raises(MailDelayedError, match=f"127.0.0.1:{port} cannot be reached: Connection refused"):
            send(conf, compose(conf, READY))


@pytest.mark.parametrize("host", ["nowhere.invalid", "a..b"])
def test_server_whose_name_is_not_known_delays_the_mail(host):
    conf = settings(SMTP_HOST=host)
    with pytest.raises(MailDelayedError, match=f"{host}:25 cannot be reached: "):
        send(conf, compose(conf, READY))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("ending", [DROP, HANG, "421 leave me alone", "nonsense"])
def test_mail_that_was_taken_is_sent_however_the_server_says_goodbye(sink, monkeypatch, ending):
    monkeypatch.setattr("ckanpackager.notify.mail._GOODBYE", 0.1)
    sink.answers["QUIT"] = ending
    deliver(sink, SMTP_TIMEOUT=600)
    assert len(sink.mails) == 1


def test_server_can_be_tried_out_without_sending_anything(sink):
    probe(settings(**sink.settings))
    assert "MAIL" not in sink.commands
    sink.answers["CONNECT"] = "421 closed for today"
    with pytest.raises(MailDelayedError, match=r"does not take mail now: 421 closed for today\.$"):
        probe(settings(**sink.settings))


# Log-in and encryption


def trusting(sink: Sink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sink:
    monkeypatch.setenv("SSL_CERT_FILE", str(sink.write_authority(tmp_path / "authority.pem")))
    return sink


@pytest.mark.parametrize("tls", [None, "starttls", "tls"])
def test_log_in_works_on_every_kind_of_connection(tls, tmp_path, monkeypatch):
    with smtp_sink(tls=tls, login=("portal", "p4ss word")) as sink:
        if tls:
            trusting(sink, tmp_path, monkeypatch)
        deliver(sink)
        [mail] = sink.wait_for(1)
        assert mail.login == "portal"
        assert mail.encrypted == (tls is not None)


def test_nobody_logs_in_where_no_log_in_is_set():
    with smtp_sink(login=("portal", "p4ssword")) as sink:
        with pytest.raises(MailDelayedError, match="530"):
            deliver(sink, SMTP_LOGIN="")
        assert "AUTH" not in sink.commands


def test_wrong_password_delays_the_mail_and_is_never_shown():
    with smtp_sink(login=("portal", "right")) as sink:
        plain = base64.b64encode(b"\0portal\0wr0ng-p4ss").decode()
        sink.answers["AUTH"] = f"535 5.7.8 wr0ng-p4ss is wrong, and so is {plain}"
        with pytest.raises(MailDelayedError) as refusal:
            deliver(sink, SMTP_PASSWORD="wr0ng-p4ss")
        assert str(refusal.value) == (
            f"The mail server 127.0.0.1:{sink.port} refused the log-in (SMTP_LOGIN, SMTP_PASSWORD): "
            "535 5.7.8 (hidden) is wrong, and so is (hidden)."
        )


def test_password_outside_ascii_delays_the_mail_and_is_never_shown():
    with smtp_sink(login=("portal", "right")) as sink:
        with pytest.raises(MailDelayedError, match="SMTP_PASSWORD must") as refusal:
            deliver(sink, SMTP_PASSWORD="grün")
        assert refusal.value.__cause__ is None
        assert refusal.value.__suppress_context__


def test_server_that_offers_no_log_in_delays_the_mail(sink):
    with pytest.raises(MailDelayedError, match="does not offer a log-in"):
        deliver(sink, SMTP_LOGIN="portal", SMTP_PASSWORD="p4ssword")
    assert sink.mails == []


def test_server_with_no_way_to_log_in_that_we_know_delays_the_mail(sink):
    sink.answers["EHLO"] = "250-sink.example.org\r\n250 AUTH GSSAPI"
    with pytest.raises(MailDelayedError, match="cannot be used: No suitable authentication method"):
        deliver(sink, SMTP_LOGIN="portal", SMTP_PASSWORD="p4ssword")


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_certificate_that_nobody_vouches_for_delays_the_mail(tls):
    with smtp_sink(tls=tls, login=("portal", "p4ssword")) as sink:
        with pytest.raises(MailDelayedError, match=f"127.0.0.1:{sink.port} cannot be trusted: .*issuer"):
            deliver(sink)
        assert sink.mails == []
        assert "AUTH" not in sink.commands


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_certificate_of_another_host_delays_the_mail(tls, tmp_path, monkeypatch):
    with smtp_sink(tls=tls, certificate_for="mail.example.org") as sink:
        trusting(sink, tmp_path, monkeypatch)
        with pytest.raises(MailDelayedError, match=r"cannot be trusted: .*not valid for '127.0.0.1'"):
            deliver(sink)
        assert sink.mails == []


def test_server_without_starttls_is_sent_nothing_when_it_was_asked_for(sink):
    with pytest.raises(MailDelayedError, match="does not offer STARTTLS"):
        deliver(sink, SMTP_SECURITY="starttls", SMTP_LOGIN="portal", SMTP_PASSWORD="p4ssword")
    assert sink.mails == []
    assert "AUTH" not in sink.commands


def test_server_that_cannot_start_tls_now_delays_the_mail(tmp_path, monkeypatch):
    with smtp_sink(tls="starttls") as sink:
        trusting(sink, tmp_path, monkeypatch)
        sink.answers["STARTTLS"] = "454 4.7.0 TLS not available"
        with pytest.raises(MailDelayedError, match=r"454 4\.7\.0 TLS not available"):
            deliver(sink)
        assert sink.mails == []


def test_plain_server_on_a_tls_port_is_explained(sink):
    with pytest.raises(MailDelayedError, match="is SMTP_SECURITY right for this port"):
        deliver(sink, SMTP_SECURITY="tls")


# International addresses


def test_international_address_travels_where_the_server_supports_it(sink):
    deliver(sink, changed(READY, email="jörg@bücher.example"))
    [mail] = sink.wait_for(1)
    assert mail.recipients == ("jörg@xn--bcher-kva.example",)
    assert {"SMTPUTF8", "BODY=8BITMIME"} <= set(mail.options)
    assert "To: jörg@xn--bcher-kva.example\r\n".encode() in mail.raw


def test_international_address_is_refused_where_the_server_does_not():
    with smtp_sink(smtputf8=False) as sink:
        with pytest.raises(MailError, match=r"no SMTPUTF8.*, and the recipient's is one") as refusal:
            deliver(sink, changed(READY, email="jörg@bücher.example"))
        assert not isinstance(refusal.value, MailDelayedError)
        deliver(sink, changed(READY, email="joerg@bücher.example"))
        [mail] = sink.wait_for(1)
        assert mail.recipients == ("joerg@xn--bcher-kva.example",)


def test_international_sender_can_be_mended_by_the_admin():
    with smtp_sink(smtputf8=False) as sink, pytest.raises(MailDelayedError, match="EMAIL_FROM"):
        deliver(sink, EMAIL_FROM="jörg@example.org")


# Notices


def test_notices_survive_json_and_pickle_and_names_of_another_version():
    for notice in (READY, FAILED, changed(READY, doi="10.5072/{x}", rows=None)):
        stored = json.loads(json.dumps(notice.to_dict()))
        assert Notice.from_dict(stored | {"from": "a later version"}) == notice
        assert pickle.loads(pickle.dumps(notice)) == notice


def test_the_table_of_notifiers_brings_no_smtp_into_the_web_process():
    code = "import sys, ckanpackager.notify; sys.exit('smtplib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
