"""The report in a real browser: no error, no network, nothing cut off, on a desk, on a phone and on paper."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ppdl.evaluation.report.content import ReportContent
from ppdl.evaluation.report.html import write_html
from tests.browser import browser, keep, opened  # noqa: F401
from tests.evaluation.report_content import full_content, least_content

CONTENTS = {"full": full_content, "least": least_content}
DESK_PX, PHONE_PX, PAPER_PX = 1280, 375, 688  # A4 less its margins of 14 mm
MAX_PAGES = {"full": 14, "least": 5}
# Elements that stick out of the page and that no scrolling container holds
OVERFLOWING = """() => [...document.querySelectorAll('body *')].filter(e => {
  const inside = e.closest('.scroll, pre, svg');
  return (!inside || inside === e) && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1;
}).map(e => e.outerHTML.slice(0, 120))"""
BROKEN_IMAGES = "() => [...document.images].filter(e => !e.complete || e.naturalWidth === 0).map(e => e.alt)"


@pytest.fixture(scope="module", params=CONTENTS)
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    content: Callable[[], ReportContent] = CONTENTS[request.param]
    path = tmp_path_factory.mktemp("report") / f"{request.param}.html"
    write_html(path, content())
    return path


@pytest.mark.parametrize("width", [DESK_PX, PHONE_PX])
def test_opens_without_error_network_or_overflow(browser: Any, report: Path, width: int):  # noqa: F811
    with opened(browser, report, width=width) as (page, complaints):
        assert page.evaluate(BROKEN_IMAGES) == []
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        assert page.evaluate(OVERFLOWING) == []
        keep(page, f"{report.stem}-{width}", report.parent, full_page=True)
        page.evaluate("() => document.querySelectorAll('details').forEach(e => e.open = true)")
        assert page.evaluate(OVERFLOWING) == []
        assert page.evaluate(BROKEN_IMAGES) == []
    assert complaints.errors == []
    assert complaints.foreign(report) == []
    assert report.as_uri() in complaints.requests  # what is recorded is seen to be recorded


def test_links_inside_the_page_lead_somewhere(browser: Any, report: Path):  # noqa: F811
    with opened(browser, report, width=DESK_PX) as (page, _):
        targets = page.evaluate("() => [...document.querySelectorAll('a')].map(a => a.getAttribute('href'))")
        assert targets
        assert [target for target in targets if not target.startswith("#") or page.query_selector(target) is None] == []


def test_prints_on_a_few_pages(browser: Any, report: Path):  # noqa: F811
    with opened(browser, report, width=PAPER_PX) as (page, _):
        page.emulate_media(media="print")
        assert page.evaluate(OVERFLOWING.replace("'.scroll, pre, svg'", "'svg'")) == []  # paper does not scroll
        keep(page, f"{report.stem}-print", report.parent, full_page=True)
        pdf = page.pdf(format="A4", prefer_css_page_size=True, print_background=True)
    if folder := os.environ.get("PPDL_SCREENSHOTS"):
        (Path(folder) / f"{report.stem}.pdf").write_bytes(pdf)
    num_pages = len(re.findall(rb"/Type\s*/Page\b", pdf))
    assert 1 <= num_pages <= MAX_PAGES[report.stem]


def test_what_a_page_must_not_do_is_noticed(browser: Any, tmp_path: Path):  # noqa: F811
    bad = tmp_path / "bad.html"
    wide = "<div style='width: 3000px'>wide</div><img src='data:image/png;base64,AAAA' alt='broken'>"
    bad.write_text(f"{wide}<script>console.error('no'); throw Error('oh')</script><img src='http://127.0.0.1:9/x.png'>", encoding="utf-8")
    with opened(browser, bad, width=PHONE_PX) as (page, complaints):
        assert "broken" in page.evaluate(BROKEN_IMAGES)
        assert page.evaluate(OVERFLOWING)
    assert "no" in complaints.errors and "oh" in complaints.errors
    assert complaints.foreign(bad) == ["http://127.0.0.1:9/x.png"]
