"""Named trainings: what is committed in data/checkpoints can be made again by its name."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from course import device
from course.diffusion import schedule
from course.diffusion.schedule import Schedule
from course.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from course.models.classifier import Classifier, ClassifierConfig
from course.models.clip import CLIPConfig, CLIPModel
from course.models.configs import (
    DIGITS_CLASSIFIER,
    DIGITS_COND_UNET,
    DIGITS_NOISY_CLASSIFIER,
    DIGITS_UNET,
    SCENES_CLIP,
    SCENES_LDM,
    SCENES_LDMS,
    SCENES_VAE,
    SCENES_VAE_64,
    SCENES_VAES,
)
from course.models.latent_diffusion import LatentDiffusion, LatentDiffusionConfig
from course.models.noisy_classifier import NoisyClassifier, NoisyClassifierConfig
from course.models.unet import UNet2DConditionModel, UNetConfig
from course.training import checkpoint
from course.training.settings import Settings, SetupError

Config = (
    UNetConfig
    | ClassifierConfig
    | NoisyClassifierConfig
    | CLIPConfig
    | AutoencoderKLConfig
    | LatentDiffusionConfig
)
NETWORKS = {
    UNetConfig: UNet2DConditionModel,
    ClassifierConfig: Classifier,
    NoisyClassifierConfig: NoisyClassifier,
    CLIPConfig: CLIPModel,
    AutoencoderKLConfig: AutoencoderKL,
    LatentDiffusionConfig: LatentDiffusion,
}


@dataclass(frozen=True)
class Recipe:
    """A training by name.

    Attributes:
        name: of the recipe and of its checkpoint.
        about: what it is for, in one sentence.
        model: configuration of the network.
        settings: of the training on a CPU.
        gpu: what settings for a GPU have otherwise, if it has any of its own; the card says on
            which lane the committed checkpoint was trained.
        measured: fields of the configuration that are only known when it is over; its figures have
            them, and the card's model.
        stored: precision of the weights in the checkpoint: "float32" or "float16"; the figures are
            those of the rounded ones.
    """

    name: str
    about: str
    model: Config
    settings: Settings
    gpu: Mapping[str, Any] | None = None
    measured: tuple[str, ...] = ()
    stored: str = "float32"

    @property
    def lanes(self) -> dict[str, Settings]:
        """Settings by the name of their lane: "cpu", and perhaps "gpu"."""
        lanes = {"cpu": self.settings}
        return lanes | {"gpu": replace(self.settings, **self.gpu)} if self.gpu else lanes

    def lane(self, asked: str) -> str:
        """The lane that is meant: "auto" is "gpu" if there is such a lane, and CUDA.

        Raises:
            SetupError: the recipe has no such lane, or there is no GPU for it.
        """
        if asked == "auto":
            return "gpu" if self.gpu and torch.cuda.is_available() else "cpu"
        if asked not in self.lanes:
            raise SetupError(
                f"lane: expected auto or one of {self.name}, which are {', '.join(self.lanes)}; "
                f"came {asked!r}"
            )
        if asked == "gpu" and device.gpu() is None:
            raise SetupError("lane: expected cpu or auto, as no GPU is found here, came 'gpu'")
        return asked

    def facts(self) -> dict[str, Any]:
        """The recipe as JSON holds it."""
        return {"recipe": self.name, "model": _as_json(self.model)}


LDM = Settings(steps=18_000, batch_size=96, learning_rate=1.5e-3, warmup=200, precision="bfloat16")
DDPM = Settings(steps=28_000, batch_size=32, learning_rate=1.5e-3, warmup=200, precision="bfloat16")
COMPILED = {"compile": True, "channels_last": True, "workers": 4}
# What about ten minutes of one thread are enough for, by f.
LDM_STEPS = {1: 1500, 2: 2000, 4: 2700, 8: 6400}
LDM_GPU = {"steps": 40_000, "batch_size": 256, "warmup": 500, "channels_last": True, "workers": 8}
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "digits-classifier",
            "Tells digits apart; judges generated ones and gives the features of FID.",
            DIGITS_CLASSIFIER,
            Settings(steps=3000, batch_size=128, learning_rate=3e-3, weight_decay=0.05),
        ),
        Recipe(
            "digits-ddpm",
            "Draws digits: the noise predictor of DDPM on MNIST, 28 x 28.",
            DIGITS_UNET,
            replace(DDPM, steps=26_500, beta2=0.99),
            gpu=COMPILED | {"batch_size": 128},
        ),
        Recipe(
            "digits-cond",
            "Draws the digit that it is told, or any: for classifier-free guidance, 28 x 28.",
            DIGITS_COND_UNET,
            DDPM,
            gpu=COMPILED | {"batch_size": 128},
        ),
        Recipe(
            "digits-noisy-classifier",
            "Tells digits apart at any level of noise: for classifier guidance.",
            DIGITS_NOISY_CLASSIFIER,
            Settings(steps=6000, batch_size=128, learning_rate=3e-3, weight_decay=0.05),
        ),
        Recipe(
            "scenes-clip",
            "Brings captioned scenes and their captions together: CLIP in small, 32 x 32.",
            SCENES_CLIP,
            Settings(steps=16_000, batch_size=64, learning_rate=1e-3, weight_decay=0.05),
        ),
        Recipe(
            "scenes-vae",
            "Compresses captioned scenes: the autoencoder of latent diffusion, 32 x 32, f = 4.",
            SCENES_VAE,
            Settings(steps=15_000, batch_size=32, learning_rate=3e-3, precision="bfloat16"),
            gpu=COMPILED | {"batch_size": 128},
            measured=("scaling_factor",),
        ),
        Recipe(
            "scenes-ldm",
            "Draws captioned scenes: latent diffusion on latents of scenes-vae, 32 x 32.",
            SCENES_LDM,
            replace(LDM, steps=4000, learning_rate=5e-4),
            gpu=LDM_GPU | {"learning_rate": 1e-3},
            stored="float16",
        ),
        Recipe(
            "scenes-ldm-joint",
            "The same with its text encoder trained along, which forgets who is above whom.",
            SCENES_LDM,
            LDM,
            stored="float16",
        ),
        Recipe(
            "scenes-ldm-frozen",
            "The same with the text encoder of scenes-clip, frozen, which takes grey for white.",
            SCENES_LDM,
            replace(LDM, steps=11_000, learning_rate=1e-3),
            stored="float16",
        ),
        Recipe(
            "scenes-vae-64",
            "Compresses captioned scenes of 64 x 64, f = 8: the autoencoder of scenes-ldm-64.",
            SCENES_VAE_64,
            Settings(steps=15_000, batch_size=32, learning_rate=3e-3, precision="bfloat16"),
            gpu=COMPILED | {"steps": 5000, "batch_size": 128},
            measured=("scaling_factor",),
            stored="float16",
        ),
        Recipe(
            "scenes-ldm-64",
            "Draws captioned scenes: latent diffusion on latents of scenes-vae-64, 64 x 64.",
            SCENES_LDM,
            LDM,
            gpu=LDM_GPU,
            stored="float16",
        ),
        *(
            Recipe(
                f"scenes-ldm-f{f}",
                f"Draws scenes of one thing after ten minutes, f = {f}: to compare them.",
                config,
                replace(LDM, steps=LDM_STEPS[f], batch_size=32),
                stored="float16",
            )
            for f, config in SCENES_LDMS.items()
        ),
        *(
            Recipe(
                f"scenes-vae-f{f}",
                f"Compresses scenes {f} times each way, trained alike for all f: to compare them.",
                config,
                Settings(steps=5000, batch_size=16, learning_rate=3e-3, precision="bfloat16"),
                measured=("scaling_factor",),
            )
            for f, config in SCENES_VAES.items()
        ),
    )
}


def find(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in RECIPES:
        raise ValueError(f"name: expected one of {', '.join(RECIPES)}, came {name!r}")
    return RECIPES[name]


def build(config: Config, seed: int = 0) -> nn.Module:
    """A network with the first weights of a seed; other random numbers stay untouched."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return NETWORKS[type(config)](config)


def load(name: str) -> nn.Module:
    """The network that a recipe trained, from its committed checkpoint, in eval mode.

    Raises:
        ValueError: there is no such recipe.
        CheckpointError: the checkpoint is missing, broken, or of another configuration.
    """
    recipe = find(name)
    path, card = checkpoint.published(name)
    # Fields of the configuration that are younger than the card have their default.
    said = _as_json(type(recipe.model)()) | card["model"]
    config = replace(recipe.model, **{field: said[field] for field in recipe.measured})
    if said != _as_json(config):
        raise checkpoint.CheckpointError(
            f"{path}: expected the model {_as_json(config)}, its card says {card['model']}"
        )
    tensors, _ = checkpoint.load(path)
    model = build(config)
    model.load_state_dict(tensors)
    return model.eval().requires_grad_(False)


def ddpm_schedule() -> Schedule:
    """The schedule that `digits-ddpm` was trained for: Ho's linear one, T = 1000."""
    return schedule.linear()


def _as_json(config: Config) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(config)))
