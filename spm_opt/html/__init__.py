"""The report of a schedule as one HTML file: what is shown, and how the page is put together."""

from __future__ import annotations

from spm_opt.html.page import report_html

__all__ = ["report_html"]
