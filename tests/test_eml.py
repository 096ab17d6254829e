"""The metadata of a request: XML or refused, and changed in nothing but its placeholders."""

import subprocess
import sys
import uuid

import pytest
from lxml import etree

from ckanpackager import eml
from ckanpackager.errors import BadRequestError
from tests.archives import GBIF


def fill(text: str, **values: str) -> bytes:
    checked = eml.check(text)
    assert checked is not None
    filled = {"package_id": "1", "pub_date": "2024-05-06", "date_stamp": "2024-05-06T07:08:09Z", **values}
    return eml.fill(checked, **filled)


@pytest.mark.parametrize("text", [None, "", " \n\t", "\ufeff"])
def test_case_18_blank_metadata_is_none(text: str | None) -> None:
    assert eml.check(text) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<a>", "not well-formed"),
        ("a", "not well-formed"),
        ("<a/><b/>", "not well-formed"),
        ("<a>&eacute;</a>", "not well-formed"),
        ("<x:a/>", "not well-formed"),
        ("<{package_id}/>", "not well-formed"),
        ("<a>\x01</a>", "not well-formed"),
        ("<a>\ud800</a>", "not valid Unicode"),
        ("<!DOCTYPE a><a/>", "DOCTYPE"),
        ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>', "DOCTYPE"),
        ('<!DOCTYPE a [<!ENTITY b "' + "b" * 9999 + '">]><a>' + "&b;" * 9999 + "</a>", "DOCTYPE"),
    ],
)
def test_case_18_what_is_no_xml_on_its_own_is_refused_with_a_sentence(text: str, reason: str) -> None:
    with pytest.raises(BadRequestError, match=rf"eml .*{reason}.*\.$"):
        eml.check(text)


def test_a_sentence_names_the_line() -> None:
    with pytest.raises(BadRequestError, match="line 3"):
        eml.check("<a>\n<b>\n</c></a>")


def test_blank_lines_and_a_byte_order_mark_before_the_declaration_do_no_harm() -> None:
    assert etree.fromstring(fill('\ufeff\r\n<?xml version="1.0"?>\n<a/>\n')).tag == "a"


@pytest.mark.parametrize("encoding", ["ISO-8859-1", "utf-16", "windows-1252", "UTF-8"])
def test_r14_bytes_and_declaration_are_utf_8_whatever_was_declared(encoding: str) -> None:
    content = fill(f"<?xml version='1.0' encoding='{encoding}' standalone='yes'?><a>Muséum 日本</a>")
    assert content.startswith(b'<?xml version="1.0" encoding="UTF-8"?>\n')
    assert content.count(b"<?xml") == 1
    assert etree.fromstring(content).text == "Muséum 日本"


def test_r14_metadata_without_a_declaration_gets_one() -> None:
    assert fill("<a>é</a>") == '<?xml version="1.0" encoding="UTF-8"?>\n<a>é</a>'.encode()


def test_case_5_only_the_three_placeholders_are_replaced() -> None:
    text = "<a b='{package_id}'>{pub_date} {date_stamp} {} {0} {other} { {{package_id}} } %s $x</a>"
    element = etree.fromstring(fill(text))
    assert element.get("b") == "1"
    assert element.text == "2024-05-06 2024-05-06T07:08:09Z {} {0} {other} { {1} } %s $x"


def test_case_6_what_is_not_ascii_stays_as_it_is() -> None:
    assert etree.fromstring(fill("<a>Muséum {package_id}</a>")).text == "Muséum 1"


def test_case_41_a_placeholder_leads_nowhere() -> None:
    text = "<a>{package_id.__class__} {package_id[0]} {package_id!r} {pub_date.year}</a>"
    assert etree.fromstring(fill(text)).text == text[3:-4]


def test_what_is_filled_in_is_escaped_and_not_filled_in_again() -> None:
    content = fill("<a b='{package_id}'>{package_id}</a>", package_id="<&\"'{pub_date}")
    element = etree.fromstring(content)
    assert element.text == element.get("b") == "<&\"'{pub_date}"


def test_no_parser_is_loaded_until_there_is_metadata() -> None:
    code = "import sys, ckanpackager.eml; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"lxml", "pyexpat", "xml.parsers.expat"} & set(loaded.split())


@pytest.mark.skipif(not GBIF.is_dir(), reason=f"GBIF's own files are not in {GBIF} (GBIF_DATA)")
@pytest.mark.parametrize("name", ["minimal_eml_2.1.1.xml", "minimal_eml_2.2.0.xml"])
def test_gbifs_own_metadata_passes(name: str) -> None:
    package_id = str(uuid.uuid4())
    root = etree.fromstring(fill((GBIF / "eml" / name).read_text(), package_id=package_id))
    assert root.get("packageId") == package_id
    assert root.findtext("dataset/pubDate").strip() == "2024-05-06"
