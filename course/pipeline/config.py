"""How the parts of a text-to-image pipeline are used."""

from dataclasses import dataclass

from course.diffusion.schedule import SPACINGS, Schedule

PREDICTIONS = ("epsilon", "v_prediction")


@dataclass(frozen=True)
class TextToImageConfig:
    """How the parts are used; names are those of diffusers, defaults those of SD 1.5.

    Attributes:
        sample_size: height and width of the pictures it was trained for, in pixels. (Ours: that of
            diffusers counts places of the latent.)
        max_length: tokens of a prompt, start and end included.
        mask_padding: whether what fills a prompt up, from behind its end token on, is hidden from
            the U-Net. (Ours.)
        pooled: whether the vector at the end token is added to the time embedding, too. (Ours.)
        prediction_type: what the U-Net predicts: "epsilon", the noise, or "v_prediction".
        timestep_spacing: "linspace", "leading" or "trailing", see `Schedule.respace`.
        steps_offset: added to the steps that "leading" visits; 0 for the others.

    Raises:
        ValueError: a field is not as above.
    """

    sample_size: int = 512
    max_length: int = 77
    mask_padding: bool = False
    pooled: bool = False
    prediction_type: str = "epsilon"
    timestep_spacing: str = "leading"
    steps_offset: int = 1

    def __post_init__(self) -> None:
        for name, low in (("sample_size", 1), ("max_length", 2), ("steps_offset", 0)):
            if getattr(self, name) < low:
                raise ValueError(f"{name}: expected at least {low}, came {getattr(self, name)}")
        for name, known in (("prediction_type", PREDICTIONS), ("timestep_spacing", SPACINGS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: expected one of {known}, came {getattr(self, name)!r}")
        if self.steps_offset and self.timestep_spacing != "leading":
            raise ValueError(
                f"steps_offset: expected 0 for {self.timestep_spacing!r}, came {self.steps_offset}"
            )

    def respaced(self, schedule: Schedule, steps: int) -> Schedule:
        """The steps of a whole schedule that a sampler of so many visits.

        Raises:
            ValueError: there are not so many.
        """
        respaced = schedule.respace(steps, self.timestep_spacing)
        if not self.steps_offset:
            return respaced
        visited = respaced.timesteps + self.steps_offset
        if visited[-1] >= len(schedule):
            raise ValueError(
                f"steps: expected fewer, so that {self.steps_offset} can be added to each of "
                f"0..{respaced.timesteps[-1]} among {len(schedule)}, came {steps}"
            )
        return schedule.respace(visited.tolist())
