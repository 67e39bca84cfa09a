"""What training came to: its phases, as one table of epochs with one best of them."""

from dataclasses import dataclass

from yoloq.quant.quantized import QuantizedModel
from yoloq.stages.qat.setup import QatSetup
from yoloq.train.state import Epoch, RunState


@dataclass(frozen=True)
class Phase:
    """A part of the training that has a student and a state of its own."""

    setup: QatSetup
    state: RunState

    @property
    def value(self) -> float:
        """The best figure so far, by `--best`."""
        found: float = self.state.extra["best"]["value"]
        return found

    @property
    def best_epoch(self) -> int:
        """The epoch, of this phase, that it is of; 0: what the phase started from."""
        found: int = self.state.extra["best"]["epoch"]
        return found

    def best_model(self) -> QuantizedModel:
        """The plain quantized model of the best epoch."""
        kept = self.state.extra["best"]["net"]
        if kept is None:
            return self.setup.calibrated
        self.state.average.net.load_state_dict(kept)
        return self.setup.plain(self.state.average.net)


@dataclass(frozen=True)
class Trained:
    """All phases, one after another; each starts at the best of the one before."""

    phases: tuple[Phase, ...]

    @property
    def rows(self) -> list[Epoch]:
        """The table of epochs, numbered through."""
        start: Epoch = self.phases[0].state.extra["start"]
        return [
            start,
            *(
                row | {"epoch": row["epoch"] + phase.setup.behind}
                for phase in self.phases
                for row in phase.state.history
            ),
        ]

    @property
    def best_epoch(self) -> int:
        """The epoch that is kept, numbered through; 0: PTQ."""
        kept = [phase.setup.behind + phase.best_epoch for phase in self.phases if phase.best_epoch]
        return kept[-1] if kept else 0

    @property
    def value(self) -> float:
        """Its figure, by `--best`."""
        return self.phases[-1].value

    def best_model(self) -> QuantizedModel:
        """The plain quantized model that is kept."""
        return self.phases[-1].best_model()

    def remove(self) -> None:
        """Delete what the phases wrote to go on from."""
        for phase in self.phases:
            phase.state.remove()
