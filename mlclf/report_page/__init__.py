"""The page of a report: one HTML file with tables, charts and the most costly errors."""

from mlclf.report_page.page import page

__all__ = ["page"]
