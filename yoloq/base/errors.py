"""The exceptions whose text a user sees: one line that names the thing and says the remedy."""


class UserError(Exception):
    """A mistake in the input or the set-up; scripts print its text and exit with code 2."""


class CheckpointError(UserError):
    """A checkpoint cannot be read, or is not a detection model that yoloq knows."""


class DataError(UserError):
    """A data set file, image or label cannot be used."""


class PolicyError(UserError):
    """A placement policy does not fit the model."""


class EngineError(UserError):
    """An engine or device is missing, or cannot run the model."""


class RunError(UserError):
    """A run folder does not hold what a stage needs."""
