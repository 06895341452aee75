"""Networks of the course by name, each with inputs that it takes."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from course.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from course.models.classifier import Classifier, ClassifierConfig
from course.models.clip import CLIPConfig, CLIPModel, CLIPVisionConfig
from course.models.clip_text import CLIPTextConfig, CLIPTextModel
from course.models.latent_diffusion import LatentDiffusion, LatentDiffusionConfig
from course.models.noisy_classifier import NoisyClassifier, NoisyClassifierConfig
from course.models.unet import UNet2DConditionModel
from course.models.unet2015 import UNet2015
from course.models.unet_config import UNetConfig
from course.models.vae import cnn_vae, mlp_vae

SD15_UNET = UNetConfig(cross_attention_dim=768)
SD15_TEXT = CLIPTextConfig()
SD15_VAE = AutoencoderKLConfig()
DIGITS_UNET = UNetConfig(
    in_channels=1,
    out_channels=1,
    block_out_channels=(16, 32, 64, 104),
    layers_per_block=1,
    norm_num_groups=8,
    resnet_time_scale_shift="scale_shift",
)
# Ten digits and no class.
DIGITS_COND_UNET = replace(DIGITS_UNET, num_class_embeds=11)
DIGITS_CLASSIFIER = ClassifierConfig()
DIGITS_NOISY_CLASSIFIER = NoisyClassifierConfig()
# The vocabulary is that of `course.training.contrastive.scenes_tokenizer`.
SCENES_CLIP = CLIPConfig(
    text=CLIPTextConfig(
        vocab_size=635,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=32,
        eos_token_id=634,
    ),
    vision=CLIPVisionConfig(),
    projection_dim=128,
)
# Few channels where there are many pixels: most of the time goes there.
SCENES_VAE = AutoencoderKLConfig(
    block_out_channels=(16, 32, 64), layers_per_block=1, norm_num_groups=2, scaling_factor=1.0
)
# The same 8 x 8 places for four times the pixels, f = 8: wider, it is trained on a GPU.
SCENES_VAE_64 = replace(SCENES_VAE, block_out_channels=(32, 64, 96, 96))
# Few groups, which keep how one place differs from another; two levels, of 8 x 8 and 4 x 4 places.
SCENES_LDM = LatentDiffusionConfig(
    unet=UNetConfig(
        block_out_channels=(96, 96),
        layers_per_block=1,
        norm_num_groups=2,
        resnet_time_scale_shift="scale_shift",
        zero_init=True,
        cross_attention_dim=128,
        num_attention_heads=4,
        attention_levels=(0, 1),
        projection_class_embeddings_input_dim=128,
    ),
    text=SCENES_CLIP.text,
)
# By f, for one comparison: the same two levels look at the text, and finer places need more levels
# above them. f = 1 is diffusion of pixels.
SCENES_LDMS = {
    f: replace(
        SCENES_LDM,
        unet=replace(
            SCENES_LDM.unet,
            in_channels=3 if f == 1 else 4,
            out_channels=3 if f == 1 else 4,
            block_out_channels=channels,
            attention_levels=(len(channels) - 2, len(channels) - 1),
        ),
    )
    for f, channels in {1: (32, 64, 96, 96), 2: (64, 96, 96), 4: (96, 96), 8: (96, 96)}.items()
}
# By f, for one comparison: only the number of levels differs, and pictures of 64 have f = 16.
SCENES_VAES = {
    f: AutoencoderKLConfig(
        block_out_channels=channels,
        layers_per_block=1,
        norm_num_groups=2,
        scaling_factor=1.0,
        mid_block_add_attention=f > 2,
    )
    for f, channels in {
        1: (16,),
        2: (16, 32),
        4: (16, 32, 64),
        8: (16, 32, 64, 64),
        16: (8, 16, 32, 64, 64),
    }.items()
}


@dataclass(frozen=True)
class Configuration:
    """A network by name.

    Attributes:
        about: what it is, in one line.
        build: makes it, with random weights, on the current default device.
        shapes: of its inputs, by name of the argument.
    """

    about: str
    build: Callable[[], nn.Module]
    shapes: dict[str, tuple[int, ...]]

    def inputs(self) -> dict[str, Tensor]:
        """Inputs without numbers, on the meta device; times, classes and tokens are integers."""
        return {
            name: torch.empty(
                shape,
                dtype=torch.int64 if len(shape) == 1 or name == "tokens" else torch.float32,
                device="meta",
            )
            for name, shape in self.shapes.items()
        }


CONFIGURATIONS = {
    "unet": Configuration(
        "U-Net of Stable Diffusion 1.5",
        lambda: UNet2DConditionModel(SD15_UNET),
        {"xt": (1, 4, 64, 64), "t": (1,), "context": (1, 77, 768)},
    ),
    "clip-text": Configuration(
        "text encoder of Stable Diffusion 1.5",
        lambda: CLIPTextModel(SD15_TEXT),
        {"tokens": (1, 77)},
    ),
    "vae": Configuration(
        "autoencoder of Stable Diffusion 1.5",
        lambda: AutoencoderKL(SD15_VAE),
        {"x": (1, 3, 512, 512)},
    ),
    "digits-ddpm": Configuration(
        "U-Net that draws digits, of notebook 23",
        lambda: UNet2DConditionModel(DIGITS_UNET),
        {"xt": (1, 1, 28, 28), "t": (1,)},
    ),
    "digits-cond": Configuration(
        "U-Net that draws digits of a class that it is told",
        lambda: UNet2DConditionModel(DIGITS_COND_UNET),
        {"xt": (1, 1, 28, 28), "t": (1,), "context": (1,)},
    ),
    "scenes-clip": Configuration(
        "CLIP in small, for captioned scenes",
        lambda: CLIPModel(SCENES_CLIP),
        {"images": (1, 3, 32, 32), "tokens": (1, 32)},
    ),
    "scenes-vae": Configuration(
        "autoencoder in small, for captioned scenes",
        lambda: AutoencoderKL(SCENES_VAE),
        {"x": (1, 3, 32, 32)},
    ),
    "scenes-ldm": Configuration(
        "text encoder and U-Net that draw captioned scenes",
        lambda: LatentDiffusion(SCENES_LDM),
        {"xt": (1, 4, 8, 8), "t": (1,), "tokens": (1, 32)},
    ),
    "unet-2015": Configuration(
        "the original U-Net, of Ronneberger et al. 2015",
        UNet2015,
        {"x": (1, 1, 572, 572)},
    ),
    "digits-classifier": Configuration(
        "judge of drawn digits",
        lambda: Classifier(DIGITS_CLASSIFIER),
        {"images": (1, 1, 28, 28)},
    ),
    "digits-noisy-classifier": Configuration(
        "classifier of noisy digits, for guidance",
        lambda: NoisyClassifier(DIGITS_NOISY_CLASSIFIER),
        {"xt": (1, 1, 28, 28), "t": (1,)},
    ),
    "vae-mlp": Configuration(
        "variational autoencoder of fully connected layers",
        lambda: mlp_vae((1, 28, 28), 2),
        {"x": (1, 1, 28, 28), "noise": (1, 2)},
    ),
    "vae-cnn": Configuration(
        "variational autoencoder of convolutions",
        lambda: cnn_vae(2),
        {"x": (1, 1, 28, 28), "noise": (1, 2)},
    ),
}
