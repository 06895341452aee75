"""The autoencoders: what their latents are, what each part does. Parity is in tests/parity."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from course.models.autoencoder_blocks import AttentionBlock, DownEncoderBlock2D
from course.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig, DiagonalGaussian
from course.models.configs import SCENES_VAE, SD15_VAE
from course.models.resnet import ResnetBlock2D
from course.models.vq_model import VectorQuantizer, VQModel, VQModelConfig, codebook_use

CONFIG = AutoencoderKLConfig(3, 2, (4, 6, 8), 1, 5, norm_num_groups=2, scaling_factor=0.25)
CODEBOOK = VQModelConfig(3, 2, (4, 6), 1, 5, 2, num_vq_embeddings=11, vq_embed_dim=3)


def draws(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(config=CONFIG, seed=0):
    torch.manual_seed(seed)
    kind = VQModel if isinstance(config, VQModelConfig) else AutoencoderKL
    return kind(config).double()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5])
def test_sides_are_divided_by_f_and_come_back(levels):
    model = made(replace(CONFIG, block_out_channels=(4, 2, 6, 2, 4)[:levels]))
    assert model.f == model.config.f == 2 ** (levels - 1)
    x = draws(2, 3, 3 * model.f, 2 * model.f)
    posterior = model.encode(x)
    assert posterior.mean.shape == posterior.logvar.shape == (2, 5, 3, 2)
    assert model.decode(posterior.mode()).shape == (2, 2, *x.shape[2:])


def test_the_sizes_of_stable_diffusion():
    """Lecture 002: [3, 512, 512] becomes [4, 64, 64], 48 times fewer numbers."""
    with torch.device("meta"):
        posterior = AutoencoderKL(SD15_VAE).encode(torch.empty(1, 3, 512, 512))
    assert posterior.mean.shape == (1, 4, 64, 64)
    assert 3 * 512 * 512 / posterior.mean.numel() == 48


def test_the_autoencoder_of_scenes_is_small():
    model = AutoencoderKL(SCENES_VAE)
    assert model.f == 4
    assert model.encode(torch.zeros(1, 3, 32, 32)).mean.shape == (1, 4, 8, 8)
    assert sum(p.numel() for p in model.parameters()) <= 1_450_000


def test_means_and_variances_are_what_quant_conv_gives():
    """Of a network whose encoder gives 10 known channels: the first half means, the second
    logarithms of variances, mixed by the convolution."""
    model, x = made(), draws(2, 3, 8, 12)
    features = draws(2, 10, 2, 3, seed=1)
    model.encoder.register_forward_hook(lambda *_: features)
    weight, bias = model.quant_conv.weight[:, :, 0, 0], model.quant_conv.bias
    moments = torch.einsum("oc,bchw->bohw", weight, features) + bias[:, None, None]
    posterior = model.encode(x)
    torch.testing.assert_close(posterior.mean, moments[:, :5])
    torch.testing.assert_close(posterior.logvar, moments[:, 5:])
    seen = []
    model.decoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    z = draws(2, 5, 2, 3, seed=2)
    model.decode(z)
    weight, bias = model.post_quant_conv.weight[:, :, 0, 0], model.post_quant_conv.bias
    want = torch.einsum("oc,bchw->bohw", weight, z) + bias[:, None, None]
    torch.testing.assert_close(seen[0], want)


def test_draws_have_the_moments_that_are_told():
    n = 40_000
    mean = torch.tensor([0.5, -2.0, 3.0, 0.0]).double().view(1, 4, 1, 1).expand(n, 4, 1, 1)
    logvar = torch.tensor([-3.0, 0.0, 1.5, -50.0]).double().view(1, 4, 1, 1).expand(n, 4, 1, 1)
    z = DiagonalGaussian(mean, logvar).sample(seeded())
    variance = torch.tensor([-3.0, 0.0, 1.5, -30.0]).double().exp().view(4, 1, 1)
    # Five standard errors of a mean and of a variance.
    assert ((z.mean(0) - mean[0]).abs() <= 5 * (variance / n).sqrt()).all()
    assert ((z.var(0) / variance - 1).abs() < 5 * math.sqrt(2 / n)).all()


def test_a_draw_is_a_function_of_its_generator():
    q = DiagonalGaussian(draws(2, 3, 4, 5), draws(2, 3, 4, 5, seed=1))
    assert torch.equal(q.sample(seeded(7)), q.sample(seeded(7)))
    assert (q.sample(seeded(7)) - q.sample(seeded(8))).abs().max() > 0.1
    noise = draws(2, 3, 4, 5, seed=2)
    torch.testing.assert_close((q.at(noise) - q.mean) / q.logvar.exp().sqrt(), noise)
    assert torch.equal(q.at(torch.zeros_like(noise)), q.mode())


def test_the_divergence_is_torchs_in_nats_per_sample():
    mean, logvar = draws(3, 2, 4, 5), draws(3, 2, 4, 5, seed=1)
    kl = DiagonalGaussian(mean, logvar).kl()
    want = kl_divergence(Normal(mean, logvar.exp().sqrt()), Normal(0.0, 1.0))
    assert kl.shape == (3,)
    assert (kl > 0).all()
    torch.testing.assert_close(kl, want.sum((1, 2, 3)))
    assert not DiagonalGaussian(torch.zeros(2, 1, 3, 4), torch.zeros(2, 1, 3, 4)).kl().any()


def test_no_variance_is_0_or_infinite():
    logvar = torch.tensor([-1e9, -30.5, -30.0, 0.0, 20.0, 21.0, 1e9]).view(1, 1, 1, 7)
    q = DiagonalGaussian(torch.zeros_like(logvar), logvar)
    want = torch.tensor([-30.0, -30.0, -30.0, 0.0, 20.0, 20.0, 20.0]).view(1, 1, 1, 7)
    assert torch.equal(q.logvar, want)
    assert q.kl().isfinite().all()
    assert q.sample(seeded()).isfinite().all()


def test_forward_is_encoding_a_draw_and_decoding():
    model, x, noise = made(), draws(2, 3, 8, 12), draws(2, 5, 2, 3, seed=1)
    found, posterior = model(x)
    torch.testing.assert_close(found, model.decode(posterior.mean))
    torch.testing.assert_close(posterior.mean, model.encode(x).mean)
    drawn, _ = model(x, noise)
    z = posterior.mean + (posterior.logvar / 2).exp() * noise
    torch.testing.assert_close(drawn, model.decode(z))
    assert (drawn - found).abs().max() > 1e-3


def test_latents_of_diffusion_are_scaled():
    model, x = made(), draws(2, 3, 8, 12)
    posterior = model.encode(x)
    torch.testing.assert_close(model.to_latents(x), posterior.mean / 4)
    torch.testing.assert_close(model.to_latents(x, seeded(3)), posterior.sample(seeded(3)) / 4)
    z = draws(2, 5, 2, 3)
    torch.testing.assert_close(model.from_latents(z), model.decode(4 * z))
    torch.testing.assert_close(model.from_latents(model.to_latents(x)), model(x)[0])


def test_down_goes_without_a_row_above_and_a_column_to_the_left():
    """The taps of a convolution of stride 2 over an impulse, by hand; reported_bugs.md."""
    block = DownEncoderBlock2D([1], 1, downsample=True).double()
    conv = block.downsamplers[0].conv
    conv.weight.data = torch.arange(1.0, 10.0).view(1, 1, 3, 3).double()
    conv.bias.data.zero_()
    for row, column, want in (
        (0, 0, [[1, 0], [0, 0]]),
        (1, 2, [[6, 4], [0, 0]]),
        (2, 2, [[9, 7], [3, 1]]),
        (3, 3, [[0, 0], [0, 5]]),
    ):
        x = torch.zeros(1, 1, 4, 4).double()
        x[0, 0, row, column] = 1
        assert block(x)[0, 0].tolist() == want


def test_a_residual_block_that_is_told_no_time():
    torch.manual_seed(0)
    block, x = ResnetBlock2D(6, 4, None, groups=2).double(), draws(3, 6, 4, 5)
    assert [name for name, _ in block.named_parameters() if "time" in name] == []
    h = block.conv1(F.silu(block.norm1(x)))
    want = block.conv2(F.silu(block.norm2(h))) + block.conv_shortcut(x)
    torch.testing.assert_close(block(x), want)
    told = ResnetBlock2D(6, 4, 7, groups=2).double()
    told.load_state_dict(block.state_dict(), strict=False)
    nn.init.zeros_(told.time_emb_proj.weight)
    nn.init.zeros_(told.time_emb_proj.bias)
    torch.testing.assert_close(told(x, draws(3, 7)), want)


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_attention_written_out(scale):
    """Normalised with 1e-6, which pale pictures show; one head; the picture added."""
    torch.manual_seed(0)
    block, x = AttentionBlock(6, groups=3).double(), scale * draws(2, 6, 3, 4)
    with torch.no_grad():
        for p in block.parameters():
            p.copy_(draws(*p.shape, seed=p.numel()))
    groups = x.view(2, 3, 2 * 12)
    centred = groups - groups.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    normed = (centred / (variance + 1e-6).sqrt()).view(2, 6, 12)
    normed = normed * block.group_norm.weight[:, None] + block.group_norm.bias[:, None]
    q, k, v = (layer(normed.transpose(1, 2)) for layer in (block.to_q, block.to_k, block.to_v))
    out = block.to_out[0]((q @ k.transpose(1, 2) / 6**0.5).softmax(-1) @ v)
    torch.testing.assert_close(block(x), x + out.transpose(1, 2).view(2, 6, 3, 4))


def test_norms_add_a_millionth():
    for model in (made(), made(CODEBOOK)):
        eps = {module.eps for module in model.modules() if isinstance(module, nn.GroupNorm)}
        assert eps == {1e-6}


def test_places_far_apart_meet_only_in_the_middle():
    """Without attention and with norms that look at nothing else, convolutions alone."""
    for attend in (True, False):
        model = made(replace(CONFIG, mid_block_add_attention=attend)).encoder
        for name, module in list(model.named_modules()):
            if isinstance(module, nn.GroupNorm):
                parent = model.get_submodule(name.rpartition(".")[0])
                setattr(parent, name.rpartition(".")[2], nn.Identity())
        x = draws(1, 3, 4, 400).requires_grad_()
        model(x)[..., -1].sum().backward()
        assert (x.grad[..., 0] != 0).any() == attend


def test_nothing_bounds_the_output():
    model = made()
    with torch.no_grad():
        model.decoder.conv_out.bias.fill_(7.0)
    assert model(draws(2, 3, 8, 12))[0].mean() > 5


@pytest.mark.parametrize("config", [CONFIG, CODEBOOK])
def test_every_weight_gets_a_gradient(config):
    model, x = made(config), draws(2, 3, 8, 12)
    if isinstance(config, VQModelConfig):
        found, quantized = model(x)
        loss = found.square().sum() + quantized.loss
    else:
        found, posterior = model(x, draws(2, 5, 2, 3, seed=1))
        loss = found.square().sum() + posterior.kl().sum()
    loss.backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_both_spellings_and_1x1_convolutions_are_loaded():
    block = AttentionBlock(4, groups=2)
    state = block.state_dict()
    old = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
    given = {f"group_norm.{kind}": state[f"group_norm.{kind}"] for kind in ("weight", "bias")}
    for was, now in old.items():
        given[f"{was}.weight"] = state[f"{now}.weight"][:, :, None, None]
        given[f"{was}.bias"] = state[f"{now}.bias"]
    again = AttentionBlock(4, groups=2)
    names = set(given)
    again.load_state_dict(given)
    assert set(given) == names  # not changed
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
    squeezed = state | {"to_q.weight": state["to_q.weight"][:, :, None, None]}
    again.load_state_dict(squeezed)
    for wrong, said in (
        ({n: v for n, v in given.items() if n != "query.bias"}, "Missing.*to_q.bias"),
        (given | {"to_q.bias": state["to_q.bias"]}, "Unexpected.*query.bias"),
        (state | {"to_q.weight": torch.zeros(4, 4, 3, 3)}, "size mismatch.*to_q.weight"),
    ):
        with pytest.raises(RuntimeError, match=f"(?s){said}"):
            again.load_state_dict(wrong)


def test_the_nearest_code_is_taken():
    quantize = VectorQuantizer(7, 3).double()
    quantize.embedding.weight.data = draws(7, 3, seed=1)
    z = draws(2, 3, 4, 5)
    got = quantize(z)
    for b, i, j in ((0, 0, 0), (1, 3, 2), (0, 2, 4), (1, 0, 3)):
        distances = [(z[b, :, i, j] - code).norm().item() for code in quantize.embedding.weight]
        nearest = distances.index(min(distances))
        assert got.codes[b, i, j] == nearest
        torch.testing.assert_close(got.latents[b, :, i, j], quantize.embedding.weight[nearest])
    assert got.codes.unique().numel() > 2
    assert torch.equal(quantize(quantize.lookup(got.codes)).codes, got.codes)


def test_gradients_of_the_codebook_by_hand():
    """Straight through to the latents; the codebook moves towards them, they, with beta, to it."""
    quantize = VectorQuantizer(2, 1, commitment=0.25).double()
    quantize.embedding.weight.data = torch.tensor([[-1.0], [2.0]]).double()
    z = torch.tensor([-0.5, 1.0, 5.0]).double().view(1, 1, 1, 3).requires_grad_()
    got = quantize(z)
    assert got.codes.flatten().tolist() == [0, 1, 1]
    assert got.latents.flatten().tolist() == [-1, 2, 2]
    # Squared distances 0.25, 1 and 9.
    assert got.loss.item() == pytest.approx(1.25 * (0.25 + 1 + 9) / 3)
    weight = torch.tensor([3.0, -4.0, 7.0]).double().view(1, 1, 1, 3)
    (through,) = torch.autograd.grad((got.latents * weight).sum(), z, retain_graph=True)
    assert torch.equal(through, weight)
    by_latents, by_codes = torch.autograd.grad(got.loss, [z, quantize.embedding.weight])
    # d/dz of 0.25 (z - e)^2 / 3, and d/de of (e - z)^2 / 3, summed over who uses e.
    torch.testing.assert_close(by_latents.flatten() * 3, 0.5 * torch.tensor([0.5, -1, 3]).double())
    torch.testing.assert_close(by_codes.flatten() * 3, 2 * torch.tensor([-0.5, 1 - 3]).double())


def test_decoding_goes_through_the_codebook():
    model, x = made(CODEBOOK), draws(2, 3, 8, 12)
    found, quantized = model(x)
    z = model.encode(x)
    assert z.shape == (2, 3, 4, 6)
    torch.testing.assert_close(found, model.decode(z))
    torch.testing.assert_close(found, model.decode_codes(quantized.codes))
    torch.testing.assert_close(model.decode(quantized.latents), found)
    assert quantized.codes.shape == (2, 4, 6)


def test_how_much_of_a_codebook_is_used():
    assert codebook_use(torch.tensor([[3, 3], [3, 3]]), 8) == {"used": 1 / 8, "perplexity": 1}
    even = codebook_use(torch.arange(8), 8)
    assert even["used"] == 1
    assert even["perplexity"] == pytest.approx(8)
    skewed = codebook_use(torch.tensor([0, 0, 0, 5]), 10)
    assert skewed["used"] == 0.2
    assert skewed["perplexity"] == pytest.approx(0.75**-0.75 * 0.25**-0.25)


def test_lists_from_json_become_tuples(no_typecheck):
    assert replace(CONFIG, block_out_channels=[4, 6, 8]) == CONFIG
    assert replace(CODEBOOK, block_out_channels=[4, 6]) == CODEBOOK


def test_bad_arguments_are_named(no_typecheck):
    model, codebook, quantize = made(), made(CODEBOOK), VectorQuantizer(5, 3).double()
    block, told = ResnetBlock2D(4, 4, None, 2), ResnetBlock2D(4, 4, 7, 2)
    x = torch.zeros(1, 4, 3, 5)

    def changed(config=CONFIG, **values):
        return lambda: replace(config, **values)

    for call, message in (
        (lambda: model.encode(draws(2, 4, 8, 12)), r"x: .*\(B, 3, H, W\), came \(2, 4, 8, 12\)"),
        (lambda: model.encode(draws(3, 8, 12)), r"x: .*came \(3, 8, 12\)"),
        (lambda: model.encode(draws(2, 3, 8, 10)), r"x: .*multiples of 4, came \(8, 10\)"),
        (lambda: model(draws(2, 3, 0, 4)), r"x: .*multiples of 4, came \(0, 4\)"),
        (lambda: model.to_latents(draws(2, 3, 6, 4)), r"x: .*multiples of 4, came \(6, 4\)"),
        (lambda: model.decode(draws(2, 4, 3, 3)), r"z: .*\(B, 5, H, W\), came \(2, 4, 3, 3\)"),
        (lambda: model.from_latents(draws(5, 3, 3)), r"z: .*came \(5, 3, 3\)"),
        (lambda: model(draws(1, 3, 8, 8), draws(1, 5, 2, 3)), r"noise: .*\(1, 5, 2, 2\)"),
        (lambda: codebook.encode(draws(2, 3, 8, 11)), r"x: .*multiples of 2, came \(8, 11\)"),
        (lambda: codebook.decode(draws(2, 5, 4, 4)), r"z: .*\(B, 3, H, W\)"),
        (lambda: quantize(draws(2, 4, 3, 3)), r"z: .*\(B, 3, H, W\)"),
        (lambda: VectorQuantizer(0, 3), "num_embeddings: expected at least 1, came 0"),
        (lambda: VectorQuantizer(3, 0), "embedding_dim: expected at least 1, came 0"),
        (lambda: VectorQuantizer(3, 3, -0.1), "commitment: expected 0 or more, came -0.1"),
        (lambda: codebook_use(torch.tensor([0, 5]), 5), "codes: .*0..4, came 0..5"),
        (lambda: codebook_use(torch.tensor([-1]), 5), "codes: .*0..4, came -1..-1"),
        (lambda: codebook_use(torch.tensor([]).long(), 5), "codes: .*0..4, came none"),
        (lambda: block(x, draws(1, 7)), "temb: expected none for this block, came one"),
        (lambda: told(x), "temb: expected one for this block, came none"),
        (
            lambda: ResnetBlock2D(4, 4, None, 2, time_embedding_norm="scale_shift"),
            "time_embedding_norm: expected 'default' without temb_channels",
        ),
        (changed(in_channels=0), "in_channels: expected at least 1, came 0"),
        (changed(out_channels=0), "out_channels: "),
        (changed(layers_per_block=0), "layers_per_block: "),
        (changed(latent_channels=0), "latent_channels: "),
        (changed(norm_num_groups=0), "norm_num_groups: "),
        (changed(norm_num_groups=3), r"block_out_channels: .*= 3, came \(4, 6, 8\)"),
        (changed(block_out_channels=()), r"block_out_channels: .*one level, came \(\)"),
        (changed(block_out_channels=(4, 0)), r"block_out_channels: .*multiples.*came \(4, 0\)"),
        (changed(scaling_factor=0.0), "scaling_factor: expected a number above 0, came 0.0"),
        (changed(scaling_factor=math.inf), "scaling_factor: "),
        (changed(scaling_factor=math.nan), "scaling_factor: "),
        (changed(CODEBOOK, num_vq_embeddings=0), "num_vq_embeddings: "),
        (changed(CODEBOOK, vq_embed_dim=0), "vq_embed_dim: "),
        (changed(CODEBOOK, commitment=-1.0), "commitment: expected 0 or more, came -1.0"),
        (changed(CODEBOOK, norm_num_groups=4), r"block_out_channels: .*= 4, came \(4, 6\)"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
