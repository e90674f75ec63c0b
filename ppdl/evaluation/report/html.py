"""Write reports/report.html: one file without network, for a data-protection officer and for a reviewer.

The page is drawn from `report.html.jinja` and `report.css` beside this module; everything from a file is escaped.
"""

from __future__ import annotations

from pathlib import Path

import jinja2

from ppdl.evaluation.report import formatting, sections
from ppdl.evaluation.report.content import ReportContent


def write_html(out_path: Path, content: ReportContent) -> None:
    """Write the report. The same content gives the same bytes."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ppdl.evaluation", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= formatting.FILTERS
    page = environment.get_template("report.html.jinja").render(sections.sections(content))
    out_path.parent.mkdir(parents=True, exist_ok=True)
    out_path.write_text(page, encoding="utf-8", newline="\n")
