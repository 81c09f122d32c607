from __future__ import annotations

from pathlib import Path

from tests.site_links import broken_links


def test_a_link_leads_to_a_page_a_place_or_a_file_or_is_broken(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "style.css").write_text("")
    good = ["sub/page.html#there", "#here", "#", "style.css", "https://example.org/x"]
    bad = ["sub/page.html#nowhere", "#there", "missing.html", "sub/missing.css"]
    links = "".join(f'<a href="{each}">' for each in good + bad)
    (tmp_path / "index.html").write_text(f'<p id="here">{links}')
    (tmp_path / "sub/page.html").write_text('<p id="there"><a href="../index.html">')
    assert broken_links(tmp_path) == [f"index.html: {each}" for each in bad]


def test_a_site_without_links_is_none(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<p>")
    assert broken_links(tmp_path) == ["no links at all"]
