"""Small parts of pipelines, and denoisers that are exactly right."""

from types import SimpleNamespace

import torch
from torch import nn

from course.diffusion import schedule
from course.diffusion.process import predict_noise, velocity
from course.models.clip_text import CLIPTextConfig, CLIPTextModel
from course.models.tokenizer import CLIPTokenizer
from course.models.unet import UNet2DConditionModel
from course.models.unet_config import UNetConfig
from course.pipeline import TextToImage, TextToImageConfig

CORPUS = ["a red star above a blue circle"] * 2
TOKENIZER = CLIPTokenizer.train(CORPUS, 600)
PLAIN = schedule.scaled_linear()
SD15 = schedule.scaled_linear(final_alpha_bar=PLAIN.alpha_bar[0].item())


def draws(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Identity(nn.Module):
    """An autoencoder whose latents are the pictures, `factor` times as large."""

    def __init__(self, factor=1.0, f=1):
        super().__init__()
        self.factor, self.f = factor, f
        self.config = SimpleNamespace(latent_channels=3 * f * f, in_channels=3)

    def to_latents(self, x):
        return self.factor * nn.functional.pixel_unshuffle(x, self.f)

    def from_latents(self, latents):
        return nn.functional.pixel_shuffle(latents / self.factor, self.f)


class Numbers(nn.Module):
    """A text encoder whose vectors are the numbers of the tokens."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, tokens):
        return self.weight * tokens[..., None]


class Exact(nn.Module):
    """A U-Net whose predicted x_0 is `x0(xt, t, context)`, in the terms that are asked for.

    Under guidance there are two of each picture: fewer x_0 stand for all.
    """

    def __init__(self, x0, prediction_type="epsilon", noise_schedule=PLAIN):
        super().__init__()
        self.weight = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.x0, self.prediction_type, self.schedule = x0, prediction_type, noise_schedule

    def forward(self, xt, t, context=None):
        x0 = self.x0(xt, t, context)
        x0 = x0.repeat(len(xt) // len(x0), 1, 1, 1).expand_as(xt)
        noise = predict_noise(xt, t, x0, self.schedule)
        if self.prediction_type == "epsilon":
            return noise
        return velocity(x0, t, noise, self.schedule)


def is_told(context):
    """Which samples have a caption, by their second token."""
    return (context.tokens[:, 1, 0] != TOKENIZER.end).view(-1, 1, 1, 1)


def exact_pipeline(x0, autoencoder=None, noise_schedule=PLAIN, **config):
    config = TextToImageConfig(**{"sample_size": 8, "max_length": 12, **config})
    unet = Exact(x0, config.prediction_type, noise_schedule)
    return TextToImage(
        TOKENIZER, Numbers(), unet, autoencoder or Identity(), noise_schedule, config
    )


def networks(channels=4, seed=0, masked=True):
    """A text encoder and a U-Net with random weights, float64."""
    torch.manual_seed(seed)
    text = CLIPTextModel(CLIPTextConfig(len(TOKENIZER.vocab), 6, 8, 2, 2, 77, 1e-5, TOKENIZER.end))
    config = UNetConfig(
        channels, channels, (8, 12), 1, 4, cross_attention_dim=6, num_attention_heads=2
    )
    return text.double().eval(), UNet2DConditionModel(config).double().eval()
