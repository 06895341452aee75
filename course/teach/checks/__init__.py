"""The checks of every exercise, one module per notebook."""

from course.teach.checks import (
    attention,
    autoencoder_kl,
    conditional_unet,
    ddpm_images,
    ddpm_loss,
    forward_diffusion,
    guidance,
    latent_diffusion,
    layers,
    prompt_studio,
    receptive_fields,
    sampling,
    sampling_faster,
    start_here,
    text_encoder,
    unet,
    vae,
    vae_digits,
)
from course.teach.exercise import Exercise

EXERCISES: dict[str, Exercise] = {
    found.name: found
    for notebook in (
        start_here,
        sampling,
        vae,
        vae_digits,
        forward_diffusion,
        ddpm_loss,
        ddpm_images,
        sampling_faster,
        layers,
        receptive_fields,
        unet,
        attention,
        conditional_unet,
        text_encoder,
        guidance,
        autoencoder_kl,
        latent_diffusion,
        prompt_studio,
    )
    for found in vars(notebook).values()
    if isinstance(found, Exercise)
}
