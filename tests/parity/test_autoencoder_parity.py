"""The autoencoders are diffusers', block by block, name by name and number by number."""

from dataclasses import fields

import diffusers
import pytest
import torch
from diffusers.models import attention_processor, resnet
from diffusers.models.autoencoders import vae
from diffusers.models.unets import unet_2d_blocks
from weights import draws, twins

from course.models.attention import record_attention
from course.models.autoencoder_blocks import (
    AttentionBlock,
    DownEncoderBlock2D,
    UNetMidBlock2D,
    UpDecoderBlock2D,
)
from course.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig, DiagonalGaussian
from course.models.configs import SD15_VAE
from course.models.resnet import ResnetBlock2D
from course.models.vq_model import VectorQuantizer, VQModel, VQModelConfig

CONFIGS = {
    "f = 1": AutoencoderKLConfig(3, 2, (12,), 1, 3, norm_num_groups=4),
    "f = 2, odd channels": AutoencoderKLConfig(1, 1, (9, 15), 2, 5, norm_num_groups=3),
    "f = 4, no attention": AutoencoderKLConfig(
        4, 3, (6, 4, 10), 1, 2, norm_num_groups=2, mid_block_add_attention=False
    ),
    "f = 8, as Stable Diffusion": AutoencoderKLConfig(3, 3, (8, 16, 24, 24), 2, 4, 4),
    "f = 16": AutoencoderKLConfig(2, 5, (5, 5, 10, 15, 5), 1, 1, norm_num_groups=5),
}
CODEBOOKS = {
    "f = 4": VQModelConfig(3, 3, (6, 4, 10), 1, 3, norm_num_groups=2, num_vq_embeddings=19),
    "f = 2, other width, no attention": VQModelConfig(
        2, 4, (9, 6), 2, 5, 3, 1.0, False, num_vq_embeddings=7, vq_embed_dim=4
    ),
}
# Of latents, in places.
SIZES = [(2, 3), (3, 1)]


def options(config):
    """The configuration in the words of diffusers."""
    levels = len(config.block_out_channels)
    chosen = {f.name: getattr(config, f.name) for f in fields(config) if f.name != "commitment"}
    return chosen | {
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
    }


def pair(config):
    return twins(AutoencoderKL(config), diffusers.AutoencoderKL(**options(config)))


def codebook_pair(config):
    return twins(VQModel(config), diffusers.VQModel(**options(config)))


def pictures(config, size=(2, 3)):
    return draws(3, config.in_channels, *(config.f * side for side in size))


def gradients(module, names):
    found = dict(module.named_parameters())
    return torch.cat([found[name].grad.flatten() for name in names])


def test_a_residual_block_without_time(same):
    for out in (8, 12):
        ours, theirs = twins(
            ResnetBlock2D(8, out, None, groups=4, eps=1e-3),
            resnet.ResnetBlock2D(
                in_channels=8, out_channels=out, temb_channels=None, groups=4, eps=1e-3
            ),
        )
        x = draws(3, 8, 5, 7)
        same("ResnetBlock2D, no time", ours(x), theirs(x, None))


def attention_pair(channels=12, groups=4):
    theirs = attention_processor.Attention(
        channels,
        heads=1,
        dim_head=channels,
        eps=1e-6,
        norm_num_groups=groups,
        residual_connection=True,
        bias=True,
        _from_deprecated_attn_block=True,
    )
    return twins(AttentionBlock(channels, groups), theirs)


def test_the_attention_of_places(same):
    ours, theirs = attention_pair()
    x = draws(3, 12, 4, 7)
    same("AttentionBlock", ours(x), theirs(x))
    with record_attention(ours) as maps:  # another way through the layer
        same("AttentionBlock, recorded", ours(x), theirs(x))
    assert maps[""][0].shape == (3, 1, 28, 28)


@pytest.mark.parametrize("more", [True, False], ids=["inner", "last"])
def test_the_blocks_of_the_ways_down_and_up(same, more):
    names = {"resnet_eps": 1e-6, "resnet_groups": 4}
    down = twins(
        DownEncoderBlock2D([8, 12, 12], 4, downsample=more),
        unet_2d_blocks.DownEncoderBlock2D(
            8, 12, num_layers=2, add_downsample=more, downsample_padding=0, **names
        ),
    )
    up = twins(
        UpDecoderBlock2D([8, 12, 12], 4, upsample=more),
        unet_2d_blocks.UpDecoderBlock2D(8, 12, num_layers=2, add_upsample=more, **names),
    )
    x = draws(3, 8, 6, 10)
    for block, (ours, theirs) in {"DownEncoderBlock2D": down, "UpDecoderBlock2D": up}.items():
        same(block, ours(x), theirs(x))


def test_the_middle(same):
    for attend in (True, False):
        ours, theirs = twins(
            UNetMidBlock2D(12, 4, attend),
            unet_2d_blocks.UNetMidBlock2D(
                12, None, resnet_groups=4, attention_head_dim=12, add_attention=attend
            ),
        )
        x = draws(3, 12, 3, 5)
        same("UNetMidBlock2D, no time", ours(x), theirs(x))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CONFIGS)
def test_the_autoencoder(same, name, size):
    config = CONFIGS[name]
    ours, theirs = pair(config)
    x = pictures(config, size)
    got, want = ours.encode(x), theirs.encode(x).latent_dist
    assert got.mean.shape == (3, config.latent_channels, *size)
    same(f"AutoencoderKL.encode, {name}", got.mean, want.mean)
    same(f"AutoencoderKL.encode, {name}", got.logvar, want.logvar)
    same(f"AutoencoderKL.encode, {name}", got.mode(), want.mode())
    z = draws(3, config.latent_channels, *size, seed=1)
    same(f"AutoencoderKL.decode, {name}", ours.decode(z), theirs.decode(z).sample)
    same(f"AutoencoderKL, {name}", ours(x)[0], theirs(x).sample)
    drawn = [q.sample(torch.Generator().manual_seed(4)) for q in (got, want)]
    same("DiagonalGaussian.sample", *drawn)


def test_what_the_distributions_say(same):
    mean, logvar = draws(5, 2, 3, 4), 30 * draws(5, 2, 3, 4, seed=1)
    ours = DiagonalGaussian(mean, logvar)
    theirs = vae.DiagonalGaussianDistribution(torch.cat([mean, logvar], 1))
    assert ours.logvar.min() == -30
    assert ours.logvar.max() == 20
    same("DiagonalGaussian, clamped", ours.logvar, theirs.logvar)
    relative = theirs.kl().max()
    same("DiagonalGaussian.kl, relative", ours.kl() / relative, theirs.kl() / relative)
    small = DiagonalGaussian(mean, logvar / 30)
    theirs = vae.DiagonalGaussianDistribution(torch.cat([mean, logvar / 30], 1))
    same("DiagonalGaussian.kl", small.kl(), theirs.kl())


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_of_the_autoencoder(same, name):
    """Of all weights, through encoder, draw and decoder, and of the KL divergence."""
    config = CONFIGS[name]
    ours, theirs = pair(config)
    x = pictures(config)
    noise = draws(3, config.latent_channels, 2, 3, seed=1)
    found, posterior = ours(x, noise)
    (found.square().mean() + posterior.kl().mean()).backward()
    want = theirs.encode(x).latent_dist
    decoded = theirs.decode(want.mean + want.std * noise).sample
    (decoded.square().mean() + want.kl().mean()).backward()
    names = [name for name, _ in theirs.named_parameters()]
    assert set(names) == {name for name, _ in ours.named_parameters()}
    # One number added to all scores of a place: no effect.
    names = [name for name in names if not name.endswith("to_k.bias")]
    got, want = gradients(ours, names), gradients(theirs, names)
    scale = want.abs().max().clamp(min=1)
    same("AutoencoderKL, all gradients", got / scale, want / scale)


@pytest.mark.parametrize("name", CODEBOOKS)
@pytest.mark.parametrize("size", SIZES)
def test_the_autoencoder_with_a_codebook(same, name, size):
    config = CODEBOOKS[name]
    ours, theirs = codebook_pair(config)
    # Codes as far apart as latents are.
    codebook = draws(*ours.quantize.embedding.weight.shape, seed=2)
    for model in (ours, theirs):
        model.quantize.embedding.weight.data = codebook
    x = pictures(config, size)
    z = ours.encode(x)
    assert z.shape == (3, ours.embed_dim, *size)
    same(f"VQModel.encode, {name}", z, theirs.encode(x).latents)
    z = draws(3, ours.embed_dim, *size, seed=3)
    same(f"VQModel.decode, {name}", ours.decode(z), theirs.decode(z).sample)
    same(f"VQModel, {name}", ours(x)[0], theirs(x).sample)
    codes = ours.quantize(z).codes
    assert codes.unique().numel() > 1
    theirs.register_to_config(lookup_from_codebook=True)
    shape = (3, *size, ours.embed_dim)
    want = theirs.decode(codes.flatten(), force_not_quantize=True, shape=shape).sample
    same(f"VQModel, codes, {name}", ours.decode_codes(codes), want)
    same(f"VQModel, codes, {name}", ours.decode_codes(codes), ours.decode(z))


def test_the_codebook(same):
    """With the codebook's part and the encoder's weighed as in the paper: legacy=False."""
    ours = VectorQuantizer(11, 5, commitment=0.4)
    theirs = vae.VectorQuantizer(11, 5, beta=0.4, legacy=False)
    ours, theirs = twins(ours, theirs)
    inputs = [draws(3, 5, 4, 7).requires_grad_() for _ in range(2)]
    weight = draws(3, 5, 4, 7, seed=1)
    got, (want, loss, (_, _, codes)) = ours(inputs[0]), theirs(inputs[1])
    same("VectorQuantizer", got.latents, want)
    assert torch.equal(got.codes.flatten(), codes)
    torch.testing.assert_close(got.loss, loss, rtol=0, atol=1e-12)
    same("VectorQuantizer, lookup", ours.lookup(got.codes), want.detach())
    ((got.latents * weight).sum() + got.loss).backward()
    ((want * weight).sum() + loss).backward()
    same("VectorQuantizer, gradients", inputs[0].grad, inputs[1].grad)
    same("VectorQuantizer, gradients", ours.embedding.weight.grad, theirs.embedding.weight.grad)


def old_names(state, convolutions):
    """As files of diffusers had them before, their layers linear or 1x1 convolutions."""
    spelled = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for name, value in state.items():
        for new, old in spelled.items():
            if f".{new}." in f".{name}":
                name = name.replace(new, old)
                if convolutions and value.ndim == 2:
                    value = value[:, :, None, None]
        yield name, value


@pytest.mark.parametrize("convolutions", [False, True])
def test_old_names_are_loaded(same, convolutions):
    config = CONFIGS["f = 8, as Stable Diffusion"]
    _, theirs = pair(config)
    old = dict(old_names(theirs.state_dict(), convolutions))
    assert sum("query" in name for name in old) == 4
    again = AutoencoderKL(config).double()
    again.load_state_dict(old)  # strictly
    x = pictures(config)
    same("AutoencoderKL, old names", again(x)[0], theirs(x).sample)
    reloaded = diffusers.AutoencoderKL(**options(config)).double()
    reloaded.load_state_dict(again.state_dict())
    same("AutoencoderKL, old names", again(x)[0], reloaded(x).sample)


def test_at_full_size_it_is_stable_diffusions(record_property):
    """Names, shapes and counts, on the meta device; counts of sd15.md, A1."""
    with torch.device("meta"):
        ours, theirs = AutoencoderKL(SD15_VAE), diffusers.AutoencoderKL(**options(SD15_VAE))
    got, want = ours.state_dict(), theirs.state_dict()
    assert {name: tuple(value.shape) for name, value in got.items()} == {
        name: tuple(value.shape) for name, value in want.items()
    }
    assert SD15_VAE.scaling_factor == theirs.config.scaling_factor == 0.18215
    assert ours.f == 8

    def parameters(module):
        return sum(p.numel() for p in module.parameters())

    assert len(got) == 248
    assert parameters(ours) == 83_653_863
    record_property("counts", f"SD15_VAE: {parameters(ours):,} parameters in {len(got)} tensors")
    encoder, decoder = ours.encoder, ours.decoder
    assert (parameters(encoder), parameters(decoder)) == (34_163_592, 49_490_179)
    assert (parameters(ours.quant_conv), parameters(ours.post_quant_conv)) == (72, 20)
    down = [738_944, 2_690_304, 10_754_560, 9_443_328]
    assert [parameters(block) for block in encoder.down_blocks] == down
    up = [16_524_800, 16_524_800, 4_855_296, 1_067_648]
    assert [parameters(block) for block in decoder.up_blocks] == up
    assert parameters(encoder.mid_block) == parameters(decoder.mid_block) == 10_494_976
    assert parameters(encoder.mid_block.attentions) == 1_051_648


@pytest.mark.slow
def test_at_full_size_it_computes_what_diffusers_does(record_property):
    """Float32, all 84 million weights, a small picture: the largest difference, relative."""
    with torch.device("meta"):
        ours, theirs = AutoencoderKL(SD15_VAE), diffusers.AutoencoderKL(**options(SD15_VAE))
    ours.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in ours.parameters():
            scale = 0.1 if p.ndim == 1 else p[0].numel() ** -0.5
            p.normal_(generator=generator).mul_(scale).add_(p.ndim == 1)
    theirs.load_state_dict(ours.state_dict(), assign=True)
    x = torch.randn(1, 3, 32, 64, generator=generator)
    with torch.inference_mode():
        (got, posterior), want = ours(x), theirs(x).sample
        mean = theirs.encode(x).latent_dist.mean
    assert got.shape == x.shape
    pairs = ((got, want), (posterior.mean, mean))
    gap = max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)
    record_property("counts", f"SD15_VAE, float32, 32x64: worst difference {gap:.1e}")
    assert gap <= 1e-4
