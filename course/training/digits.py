"""Digits: what their recipes train on, and what is measured."""

from typing import Any

import torch
from torch import Tensor, nn

from course.data.mnist import digits, mnist
from course.diffusion.bound import min_snr_weight
from course.diffusion.sampling import ddim
from course.metrics import frechet, inception, judge, neighbours
from course.training import recipes
from course.training.updates import Objective

DATA = "MNIST's training set without the 5,000 digits that the course ships"


def labels(device: torch.device) -> Objective:
    """What `digits-classifier` learns: which digit it is."""
    images, targets = mnist("train", drop_offline=True)
    return recipes.label_objective(images.to(device), targets.to(device))


def noise(device: torch.device) -> Objective:
    """What `digits-ddpm` learns: the noise in a digit, weighted by min-SNR."""
    images, _ = mnist("train", drop_offline=True)
    noise_schedule = recipes.ddpm_schedule()
    return recipes.noise_objective(
        images.to(device), noise_schedule, min_snr_weight(noise_schedule)
    )


def measure_classifier(model: nn.Module) -> dict[str, Any]:
    """Accuracy on MNIST's test images and on the offline held-out digits."""
    sets = {"test": mnist("test"), "held_out": digits("held_out")}
    figures: dict[str, Any] = {}
    for name, (images, labels) in sets.items():
        p = judge.probabilities(model, images)
        right = int((p.argmax(1) == labels).sum())
        figures[name] = {
            "images": len(images),
            "accuracy": right / len(images),
            "sure": (p.amax(1) >= 0.9).double().mean().item(),
        }
    return figures


def sample_digits(model: nn.Module, n: int, steps: int = 50, seed: int = 0) -> Tensor:
    """Draw n digits by DDIM with the `digits-ddpm` schedule, x_0 clipped to [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    xT = torch.randn(n, 1, 28, 28, generator=generator).to(next(model.parameters()).device)
    noise_schedule = recipes.ddpm_schedule().respace(steps)
    return torch.cat([ddim(model, x, noise_schedule, clip=(-1, 1)) for x in xT.split(250)]).cpu()


def judge_digits(images: Tensor, classifier: nn.Module) -> dict[str, Any]:
    """How a classifier sees pictures: the share it is sure of, and which classes they are."""
    p = judge.probabilities(classifier, images)
    return {
        "images": len(images),
        "sure": (p.amax(1) >= 0.9).double().mean().item(),
        "inception_score": inception.inception_score(p),
        "classes": (p.argmax(1).bincount(minlength=10) / len(p)).tolist(),
    }


def measure_ddpm(model: nn.Module) -> dict[str, Any]:
    """1,000 DDIM-50 samples against real digits: judged, compared, and searched for copies."""
    classifier = recipes.load("digits-classifier")
    samples = sample_digits(model, 1000)
    trained_on, _ = mnist("train", drop_offline=True)
    held_out, _ = digits("held_out")
    test, _ = mnist("test")
    real = judge.features(classifier, test)
    figures: dict[str, Any] = {"sampler": "DDIM, 50 steps, eta 0, x_0 clipped, seed 0"}
    for name, images in {"samples": samples, "held_out": held_out}.items():
        f = judge.features(classifier, images)
        precision, recall = neighbours.precision_recall(real[:5000], f)
        low, high = frechet.fid_interval(f, real)
        distance = neighbours.nearest_distance(images, trained_on)
        figures[name] = judge_digits(images, classifier) | {
            "fid": frechet.fid(f, real),
            "fid_interval_95": [low, high],
            "fid_against": f"{len(real)} test images, {f.shape[1]} features of digits-classifier",
            "precision": precision,
            "recall": recall,
            "nearest_training_picture": {
                "median": distance.median().item(),
                "smallest": distance.min().item(),
            },
        }
    return figures
