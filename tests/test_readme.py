"""What README.md, CONTRIBUTING.md and the pages of docs/ promise in code and paths."""

import pathlib
import re

import pytest
from conftest import make_readers_folder

ROOT = pathlib.Path(__file__).parent.parent
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
}
README = PAGES["README.md"]
SLOW_PAGES = dict.fromkeys(("README.md", "docs/python.md"), pytest.mark.slow)  # detectors are trained


def blocks(text, language):
    """The fenced blocks of a language in a page, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_two_commands_stand_first_and_alone():
    assert blocks(README, "sh")[:2] == [
        "pip install -e . && python main.py\n",
        "pip install -e '.[test]' && pytest\n",
    ]


def test_ci_runs_the_readmes_test_command():
    assert "README.md" in (ROOT / ".ci" / "run").read_text()


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 120


def test_the_functional_script_is_short():
    [script] = [
        block
        for block in blocks(PAGES["docs/python.md"], "python")
        if "FeaturePyramid(channels=64)(maps)" in block
    ]
    assert len([line for line in script.splitlines() if line.strip()]) < 15


@pytest.fixture
def folder_of_a_reader(tmp_path, monkeypatch):
    """The current directory of the pages' scripts."""
    monkeypatch.chdir(make_readers_folder(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=SLOW_PAGES.get(page, ()))
        for page, text in PAGES.items()
        if blocks(text, "python")
    ],
)
def test_the_python_of_a_page_runs(page, folder_of_a_reader):
    scope = {}
    for script in blocks(PAGES[page], "python"):
        exec(compile(script, page, "exec"), scope)


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_exists(page):
    paths = re.findall(r"`((?:fpn_tf|experiments|tests|docs)/[\w/.]*|main\.py|\.ci/run)`", PAGES[page])
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_map_names_files():
    assert len(re.findall(r"`(?:fpn_tf|experiments|tests)/", PAGES["docs/the_code.md"])) > 10


def headings(text):
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        assert not anchor or anchor in headings(file.read_text()), target


def test_every_page_can_be_reached_from_the_readme():
    links = set(re.findall(r"\]\((docs/\w+\.md)\)", README))
    assert links == {page for page in PAGES if page.startswith("docs/")}
