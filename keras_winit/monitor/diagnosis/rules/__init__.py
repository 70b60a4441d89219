"""The diagnostic rules, one small class each."""

from keras_winit.monitor.diagnosis.rules.base import Rule as Rule
from keras_winit.monitor.diagnosis.rules.base import Violation as Violation
from keras_winit.monitor.diagnosis.rules.data import InputScale as InputScale
from keras_winit.monitor.diagnosis.rules.dead_output import DeadOutput as DeadOutput
from keras_winit.monitor.diagnosis.rules.gradients import ExplodingBackward as ExplodingBackward
from keras_winit.monitor.diagnosis.rules.gradients import VanishingBackward as VanishingBackward
from keras_winit.monitor.diagnosis.rules.losses import LossMismatch as LossMismatch
from keras_winit.monitor.diagnosis.rules.losses import TargetRange as TargetRange
from keras_winit.monitor.diagnosis.rules.non_finite import NonFinite as NonFinite
from keras_winit.monitor.diagnosis.rules.outputs import ConstantOutput as ConstantOutput
from keras_winit.monitor.diagnosis.rules.outputs import NothingLearns as NothingLearns
from keras_winit.monitor.diagnosis.rules.outputs import TargetScale as TargetScale
from keras_winit.monitor.diagnosis.rules.run_view import View as View
from keras_winit.monitor.diagnosis.rules.setup import DoubleSoftmax as DoubleSoftmax
from keras_winit.monitor.diagnosis.rules.setup import EqualKernels as EqualKernels
from keras_winit.monitor.diagnosis.rules.setup import HighDropout as HighDropout
from keras_winit.monitor.diagnosis.rules.setup import LearningRate as LearningRate
from keras_winit.monitor.diagnosis.rules.setup import NoActivation as NoActivation
from keras_winit.monitor.diagnosis.rules.setup import NothingTrainable as NothingTrainable
from keras_winit.monitor.diagnosis.rules.setup import OneUnitSoftmax as OneUnitSoftmax
from keras_winit.monitor.diagnosis.rules.signal import DeadUnits as DeadUnits
from keras_winit.monitor.diagnosis.rules.signal import ExplodingForward as ExplodingForward
from keras_winit.monitor.diagnosis.rules.signal import Saturated as Saturated
from keras_winit.monitor.diagnosis.rules.signal import VanishingForward as VanishingForward
from keras_winit.monitor.diagnosis.rules.start import BadInitialLoss as BadInitialLoss
from keras_winit.monitor.diagnosis.rules.start import ConstantUnits as ConstantUnits
from keras_winit.monitor.diagnosis.rules.start import SymmetricUnits as SymmetricUnits
from keras_winit.monitor.diagnosis.rules.updates import UpdateFrozen as UpdateFrozen
from keras_winit.monitor.diagnosis.rules.updates import UpdateTooLarge as UpdateTooLarge
from keras_winit.monitor.diagnosis.rules.wrong_init import WrongInit as WrongInit

# Roughly in the order of cause and effect.
RULES: tuple[Rule, ...] = (
    NonFinite(),
    NothingTrainable(),
    LearningRate(),
    OneUnitSoftmax(),
    LossMismatch(),
    TargetRange(),
    DoubleSoftmax(),
    NoActivation(),
    HighDropout(),
    EqualKernels(),
    ConstantUnits(),
    SymmetricUnits(),
    InputScale(),
    TargetScale(),
    WrongInit(),
    VanishingForward(),
    ExplodingForward(),
    VanishingBackward(),
    ExplodingBackward(),
    DeadUnits(),
    Saturated(),
    DeadOutput(),
    BadInitialLoss(),
    ConstantOutput(),
    UpdateTooLarge(),
    UpdateFrozen(),
    NothingLearns(),
)

__all__ = [
    "RULES",
    "Rule",
    "View",
    "Violation",
    *(type(rule).__name__ for rule in RULES),
]
