"""The training monitor: records statistics of layers, diagnoses faults, writes both to files."""

from keras_winit.monitor.callback import ActivationMonitor as ActivationMonitor
from keras_winit.monitor.capture.plan import ALL as STATISTICS
from keras_winit.monitor.check import check as check
from keras_winit.monitor.diagnosis.findings import Finding as Finding
from keras_winit.monitor.diagnosis.findings import FindingError as FindingError
from keras_winit.monitor.diagnosis.findings import Findings as Findings
from keras_winit.monitor.diagnosis.rules import RULES as RULES
from keras_winit.monitor.diagnosis.rules import Rule as Rule
from keras_winit.monitor.diagnosis.rules import View as View
from keras_winit.monitor.diagnosis.rules import Violation as Violation
from keras_winit.monitor.output.history import History as History
from keras_winit.monitor.output.writers.csv_file import CsvWriter as CsvWriter
from keras_winit.monitor.output.writers.json_lines import JsonLinesWriter as JsonLinesWriter
from keras_winit.monitor.output.writers.mlflow import MlflowWriter as MlflowWriter
from keras_winit.monitor.output.writers.tensorboard import TensorBoardWriter as TensorBoardWriter
from keras_winit.monitor.output.writers.trackio import TrackioWriter as TrackioWriter
from keras_winit.monitor.output.writers.wandb import WandbWriter as WandbWriter
from keras_winit.monitor.output.writers.writer import Writer as Writer
from keras_winit.monitor.records import Record as Record

__all__ = [
    "RULES",
    "STATISTICS",
    "ActivationMonitor",
    "CsvWriter",
    "Finding",
    "FindingError",
    "Findings",
    "History",
    "JsonLinesWriter",
    "MlflowWriter",
    "Record",
    "Rule",
    "TensorBoardWriter",
    "TrackioWriter",
    "View",
    "Violation",
    "WandbWriter",
    "Writer",
    "check",
]
