"""Writers of records and findings to TensorBoard, JSON lines and CSV files."""

from keras_winit.monitor.output.writers.csv_file import CsvWriter as CsvWriter
from keras_winit.monitor.output.writers.json_lines import JsonLinesWriter as JsonLinesWriter
from keras_winit.monitor.output.writers.tensorboard import TensorBoardWriter as TensorBoardWriter
from keras_winit.monitor.output.writers.writer import Writer as Writer

__all__ = ["CsvWriter", "JsonLinesWriter", "TensorBoardWriter", "Writer"]
