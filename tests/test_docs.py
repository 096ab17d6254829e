"""What the documentation says is what is there."""

import configparser
import re
import textwrap
from pathlib import Path

import pytest

from ckanpackager import cli, settings
from ckanpackager.jobs.models import State
from ckanpackager.web import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.rst").read_text()


def test_every_setting_is_in_the_readme_with_its_default() -> None:
    assert settings.reference().strip() in README


def test_the_command_line_is_in_the_readme_as_it_is() -> None:
    assert textwrap.indent(cli.USAGE.strip(), "    ").rstrip() in README


@pytest.mark.parametrize("name", ["README.rst", "CHANGELOG.rst"])
def test_no_line_outside_a_table_is_too_wide_for_a_terminal(name: str) -> None:
    lines = (ROOT / name).read_text().splitlines()
    assert [line for line in lines if len(line) > 140 and not line.startswith("     - ")] == []


def test_every_placeholder_is_in_the_readme() -> None:
    for name in (*settings.PLACEHOLDERS, *settings.FAILURE_PLACEHOLDERS):
        assert f"{{{name}}}" in README


def test_every_path_is_in_the_readme() -> None:
    paths = re.findall(r'\(r"(/[a-z_/]+)', Path(app.__file__).read_text())
    assert len(paths) >= 7
    for path in paths:
        assert path in README, path


def test_every_state_is_in_the_readme() -> None:
    for state in State:
        assert f"``{state}``" in README


def test_every_dependency_has_its_reason_and_a_lower_bound() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = [line for group in config["options.extras_require"].values() for line in group.split("\n")]
    lines = [line for line in (*config["options"]["install_requires"].split("\n"), *extras) if line]
    for line in lines:
        name = re.split(r"[ >=]", line)[0]
        assert f"``{name}``" in README or name.startswith("types-"), name
        assert ">=" in line or name.startswith("types-"), name


@pytest.mark.parametrize("target", re.findall(r"make ([a-z]+)", README))
def test_every_make_target_is_there(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", re.findall(r"``((?:etc|ckanpackager|systemd)/[\w./-]+)``", README))
def test_every_file_that_is_named_is_there(path: str) -> None:
    assert (ROOT / path).exists()
