"""The code in the documentation does what the documentation says; ``tests/pages.py`` says how."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pages import PAGES, ROOT, blocks, do_here, here, in_a_new_environment

# They need root, systemd, half an hour, or a package that is installed. In tests/system,
# test_background.py, test_units.py, test_inherited.py, test_proxy.py and test_others_services.py
# do what they say.
_NOT_RUN = {"sh": 5, "cfg": 2, "toml": 1}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_the_page_says_is_so(page: Path, tmp_path: Path) -> None:
    do_here(page, tmp_path)


def test_every_block_is_run_or_known_not_to_be() -> None:
    found = [block for page in PAGES for block in blocks(here(page))]
    not_run = [
        block
        for block in found
        if block.language not in ("console", "text", "{toctree}", "{include}", "{eval-rst}")
        and block.order not in ("file", "run")
    ]
    counts = dict.fromkeys(_NOT_RUN, 0)
    for block in not_run:
        counts[block.language] += 1
    assert counts == _NOT_RUN
    assert len(found) - len(not_run) >= 60


def test_there_are_no_blocks_of_other_kinds() -> None:
    """Those would not be found, nor run. The README begins with two that CI takes out of it."""
    for page in PAGES:
        fences = re.findall(r"^ *(?:```+|~~~+).*$", page.read_text(), re.MULTILINE)
        known = sum(len(blocks(part)) for part in (here(page), in_a_new_environment(page)))
        assert len(fences) == 2 * known, page
        indented = re.findall(
            r"\n\n    (.*)",
            re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE),
        )
        assert len(indented) == {"README.md": 2, "CONTRIBUTING.md": 1}.get(page.name, 0), page


def test_what_installs_things_is_run_by_ci() -> None:
    pages = [page for page in PAGES if in_a_new_environment(page)]
    script = (ROOT / ".ci/new-project").read_text()
    assert pages
    for page in pages:
        assert f"pages {page.relative_to(ROOT)} " in script


def test_links_between_the_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
