"""What was chosen and why, for people: explanation, memory picture, trace, HTML page. Decides nothing."""

from softneuro_core.report.explanation import Alternative, ConversionRow, Explanation, Row, explain
from softneuro_core.report.trace import chrome_trace

__all__ = ["Alternative", "ConversionRow", "Explanation", "Row", "chrome_trace", "explain"]
