"""Text to image by latent diffusion; the same class at the sizes of Stable Diffusion 1.5."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from course.diffusion.guidance import classifier_free
from course.diffusion.process import noise_predictor
from course.diffusion.sampling import Denoiser, ddim
from course.diffusion.schedule import Schedule
from course.models.attention import Context, record_attention
from course.models.latent_diffusion import text_context
from course.models.packing import packed_weights
from course.models.tokenizer import CLIPTokenizer
from course.pipeline.config import TextToImageConfig
from course.pipeline.known import encode, steps_taken
from course.pipeline.results import Images, attention_maps, cross_attentions


class TextToImage:
    """Captions to pictures: text encoder, U-Net with classifier-free guidance, decoder.

    Args:
        tokenizer: texts to tokens.
        text_encoder: tokens (B, M) to vectors (B, M, D), as `CLIPTextModel`.
        unet: predicts what the config says: unet(xt, t, context).
        autoencoder: pictures to latents and back, as `AutoencoderKL`.
        schedule: that the U-Net was trained with, with all of its steps.
        config: how they are used; None for that of Stable Diffusion 1.5.

    Raises:
        ValueError: the schedule is respaced.

    Source: Rombach et al. 2022, section 3; lecture 002, "Diffusion in latent space".
    """

    def __init__(
        self,
        tokenizer: CLIPTokenizer,
        text_encoder: nn.Module,
        unet: nn.Module,
        autoencoder: nn.Module,
        schedule: Schedule,
        config: TextToImageConfig | None = None,
    ):
        self.tokenizer, self.text_encoder = tokenizer, text_encoder
        self.unet, self.autoencoder = unet, autoencoder
        self.schedule, self.config = schedule, config or TextToImageConfig()
        # This checks the schedule, whatever the network predicts.
        of_velocity = noise_predictor(unet, schedule)
        is_velocity = self.config.prediction_type == "v_prediction"
        self.denoiser: Denoiser = of_velocity if is_velocity else unet

    def to(self, device: torch.device | str) -> "TextToImage":
        """Itself, with its networks on that device."""
        for network in (self.text_encoder, self.unet, self.autoencoder):
            network.to(device)
        return self

    @torch.no_grad()
    def __call__(
        self,
        prompts: str | Sequence[str],
        *,
        steps: int = 30,
        guidance_scale: float | int = 3.0,
        seed: int = 0,
        size: int | tuple[int, int] | None = None,
        eta: float | int = 0.0,
        negative: str | Sequence[str] = "",
        image: Float[Tensor, "_ C H W"] | None = None,
        strength: float | int = 1.0,
        mask: Bool[Tensor, "_ H W"] | None = None,
        progress: bool = True,
        trajectory: bool = False,
        attention: bool = False,
    ) -> Images:
        """Draw a picture for each prompt, by DDIM.

        All noise of picture i is a function of (seed, i), drawn on the CPU: what else is in the
        batch, and on what device, changes a picture by rounding at most.

        Args:
            prompts: one or several.
            steps: of the sampler, 1..T.
            guidance_scale: s = 1 + w: 1 is the prediction for the prompt alone.
            seed: from 0.
            size: height and width in pixels, multiples of the autoencoder's f, or one number for
                both; None for those of `image`, or of the config.
            eta: of DDIM: 0 is deterministic after the first noise, 1 as random as DDPM.
            negative: what to steer away from, for all or one each; "" is no caption.
            image: in [-1, 1], to start from, one for all or one each: image to image.
            strength: which part of the steps, the last ones, is taken with `image`, in (0, 1]: that
                times `steps`, rounded down, at least one. The latent's mean is noised to the level
                of the first of them; 1 starts from noise alone, as if there were no picture.
            mask: with `image`: True where to draw anew, one for all or one each. A place of the
                latent is drawn anew if any of its pixels is. All others are put back before each
                step, noised to its level, and after the last; the decoder gets them as the
                autoencoder has them.
            progress: show a bar.
            trajectory: return what happened on the way, too.
            attention: return the maps of the layers that look at the prompt, too.

        Raises:
            ValueError: an argument is not as above.

        Source: Song et al. 2021, equation 12 (DDIM); Ho & Salimans 2022 (guidance); Meng et al.
        2022, "SDEdit", algorithm 1 (image); Lugmayr et al. 2022, "RePaint", algorithm 1 without
        resampling and with the same noise at all levels (mask).
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        if not prompts:
            raise ValueError("prompts: expected at least one, came none")
        schedule = self.config.respaced(self.schedule, steps)
        sides = self._latent_sides(size, image)
        draw = self._noise(seed, (len(prompts), self.autoencoder.config.latent_channels, *sides))
        x, known = draw(), None
        if image is not None:
            known = encode(self.autoencoder, image, mask, x, self.schedule)
            taken = steps_taken(steps, strength)
            if taken < steps:
                schedule = schedule.respace(range(taken))
                x = known.noised(schedule.timesteps[-1:].expand(len(x)).to(x.device))
        elif mask is not None or strength != 1:
            name, value, wanted = (
                ("strength", strength, 1) if mask is None else ("mask", "one", None)
            )
            raise ValueError(f"{name}: expected {wanted} without image, came {value}")
        told, null = self._context(prompts), self._context(_each(negative, len(prompts)))
        denoise = classifier_free(self.denoiser, told, null, guidance_scale)
        layers = cross_attentions(self.unet) if attention else {}
        watched = nn.ModuleList(layers.values())
        with packed_weights(self.unet), record_attention(watched) as seen:
            found = ddim(
                denoise,
                x,
                schedule,
                draw,
                eta=eta,
                keep=known and known.put_back,
                trajectory=trajectory,
                progress=progress,
            )
        maps = None
        if attention:
            calls = {name: seen[str(number)] for number, name in enumerate(layers)}
            maps = attention_maps(calls, self._symbols(prompts), sides)
        x, path = (found.xt[-1], found) if trajectory else (found, None)
        return Images(self.decode(x), tuple(prompts), path, maps)

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "B Z h w"]) -> Float[Tensor, "B C H W"]:
        """Pictures in [-1, 1] of latents as the U-Net sees them."""
        return self.autoencoder.from_latents(latents).clamp(-1, 1)

    def _context(self, texts: Sequence[str]) -> Context:
        tokens = self.tokenizer(texts, self.config.max_length)
        tokens = tokens.to(next(self.text_encoder.parameters()).device)
        return text_context(
            self.text_encoder(tokens),
            tokens,
            self.tokenizer.end,
            mask_padding=self.config.mask_padding,
            pooled=self.config.pooled,
        )

    def _symbols(self, texts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """Those of each text, without the start token, as far as they are not cut off."""
        most = self.config.max_length - 2
        return tuple(tuple(self.tokenizer.tokenize(text)[:most]) for text in texts)

    def _latent_sides(
        self, size: int | tuple[int, int] | None, image: Tensor | None
    ) -> tuple[int, int]:
        f, channels = self.autoencoder.f, self.autoencoder.config.in_channels
        if image is not None:
            if size is not None:
                raise ValueError(f"size: expected None with image, came {size}")
            if image.ndim != 4 or image.shape[1] != channels:
                raise ValueError(
                    f"image: expected shape (B, {channels}, H, W), came {tuple(image.shape)}"
                )
            size = tuple(image.shape[2:])
        elif size is None:
            size = self.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        if min(height, width) < 1 or height % f or width % f:
            name = "size" if image is None else "image"
            raise ValueError(
                f"{name}: expected height and width that are multiples of {f}, "
                f"came {height} x {width}"
            )
        return height // f, width // f

    def _noise(self, seed: int, shape: tuple[int, ...]) -> Callable[[], Tensor]:
        """What draws standard normal noise, each picture's from a stream of its own."""
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed: expected 0 to 2^64 - 1, came {seed}")
        keys = [np.array([seed, i], np.uint64) for i in range(shape[0])]
        streams = [np.random.Generator(np.random.Philox(key=key)) for key in keys]
        weight = next(self.unet.parameters())

        def draw() -> Tensor:
            drawn = np.stack([stream.standard_normal(shape[1:]) for stream in streams])
            return torch.from_numpy(drawn).to(weight)

        return draw


def _each(negative: str | Sequence[str], count: int) -> list[str]:
    if isinstance(negative, str):
        return [negative] * count
    if len(negative) != count:
        raise ValueError(f"negative: expected one text or {count}, came {len(negative)}")
    return list(negative)
