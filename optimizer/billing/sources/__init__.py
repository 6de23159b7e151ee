"""Reads billing exports: finds the files, tells their format, and shows them as tables with fixed columns."""

from optimizer.billing.sources.detect import FORMATS, Detected, Format, detect
from optimizer.billing.sources.files import SourceFile, find_files
from optimizer.billing.sources.raw import RawTable, open_raw

__all__ = ["FORMATS", "Detected", "Format", "RawTable", "SourceFile", "detect", "find_files", "open_raw"]
