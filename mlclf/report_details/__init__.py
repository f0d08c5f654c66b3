"""What the page of a report shows beside its figures; bounded, however many rows and labels there are."""

from mlclf.report_details.curves import ThresholdCurves
from mlclf.report_details.details import ReportDetails, make_details
from mlclf.report_details.errors import CostlyRow, WrongLabel
from mlclf.report_details.overlap import LabelOverlap

__all__ = ["CostlyRow", "LabelOverlap", "ReportDetails", "ThresholdCurves", "WrongLabel", "make_details"]
