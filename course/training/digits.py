"""Digits: what their recipes train on, and what is measured."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course.data.mnist import digits, mnist
from course.diffusion.bound import min_snr_weight
from course.diffusion.guidance import classifier_free
from course.diffusion.process import q_sample
from course.diffusion.sampling import ddim
from course.metrics import frechet, inception, judge, neighbours
from course.training import objectives, recipes
from course.training.updates import Objective

DATA = "MNIST's training set without the 5,000 digits that the course ships"
CLASSES = 10
NO_CLASS = CLASSES  # the row behind those of the classes
SAMPLER = "DDIM, 50 steps, eta 0, x_0 clipped, seed 0"
SCALES = (1, 3)
DECIDED = (-0.2, 0.7)  # mean and standard deviation of the logit of t / T, see `logit_normal`
LEVELS = (0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 999)


def labels(device: torch.device) -> Objective:
    """What `digits-classifier` learns: which digit it is."""
    images, targets = mnist("train", drop_offline=True)
    return objectives.label_objective(images.to(device), targets.to(device))


def noise(device: torch.device) -> Objective:
    """What `digits-ddpm` learns: the noise in a digit, most often where it is decided which."""
    images, _ = mnist("train", drop_offline=True)
    time = objectives.logit_normal(*DECIDED)
    return objectives.noise_objective(images, recipes.ddpm_schedule(), time=time)


def class_noise(device: torch.device) -> Objective:
    """What `digits-cond` learns: the noise, told which digit it is in nine cases of ten."""
    images, targets = mnist("train", drop_offline=True)
    noise_schedule = recipes.ddpm_schedule()
    return objectives.noise_objective(
        images, noise_schedule, min_snr_weight(noise_schedule), targets, NO_CLASS
    )


def noisy_labels(device: torch.device) -> Objective:
    """What `digits-noisy-classifier` learns: which digit it was before the noise.

    Digits stay where they are: guidance asks for p(y | x_t) of the data that is drawn.
    """
    images, targets = mnist("train", drop_offline=True)
    noise_schedule = recipes.ddpm_schedule()
    return objectives.label_objective(
        images.to(device), targets.to(device), shift=0, noise_schedule=noise_schedule
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


@torch.no_grad()
def measure_noisy_classifier(model: nn.Module) -> dict[str, Any]:
    """Accuracy and cross-entropy at levels of noise, on MNIST's test images and held-out digits."""
    noise_schedule = recipes.ddpm_schedule()
    figures: dict[str, Any] = {"t": list(LEVELS)}
    for name, (images, labels) in {"test": mnist("test"), "held_out": digits("held_out")}.items():
        generator = torch.Generator().manual_seed(0)
        accuracy, cross_entropy = [], []
        for level in LEVELS:
            t = torch.full(labels.shape, level)
            noise = torch.randn(images.shape, generator=generator)
            xt = q_sample(images, t, noise, noise_schedule)
            batches = zip(xt.split(250), t.split(250), strict=True)
            logits = torch.cat([model(*batch) for batch in batches])
            accuracy.append((logits.argmax(1) == labels).double().mean().item())
            cross_entropy.append(F.cross_entropy(logits, labels).item())
        figures[name] = {
            "images": len(images),
            "accuracy": accuracy,
            "cross_entropy": cross_entropy,
        }
    return figures


def sample_digits(model: nn.Module, n: int, steps: int = 50, seed: int = 0) -> Tensor:
    """Draw n digits by DDIM with the `digits-ddpm` schedule, x_0 clipped to [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    xT = torch.randn(n, 1, 28, 28, generator=generator).to(next(model.parameters()).device)
    noise_schedule = recipes.ddpm_schedule().respace(steps)
    return torch.cat([ddim(model, x, noise_schedule, clip=(-1, 1)) for x in xT.split(250)]).cpu()


def sample_classes(
    model: nn.Module,
    labels: Tensor,
    guidance_scale: float = 1.0,
    steps: int = 50,
    seed: int = 0,
) -> Tensor:
    """Draw digits of these classes as `sample_digits` does, by classifier-free guidance."""
    generator = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    xT = torch.randn(len(labels), 1, 28, 28, generator=generator).to(device)
    noise_schedule = recipes.ddpm_schedule().respace(steps)
    drawn = []
    for x, y in zip(xT.split(250), labels.to(device).split(250), strict=True):
        guided = classifier_free(model, y, torch.full_like(y, NO_CLASS), guidance_scale)
        drawn.append(ddim(guided, x, noise_schedule, clip=(-1, 1)))
    return torch.cat(drawn).cpu()


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
    samples = sample_digits(model, 1000)
    held_out, _ = digits("held_out")
    return {"sampler": SAMPLER} | _compare({"samples": samples, "held_out": held_out})


def measure_cond(model: nn.Module) -> dict[str, Any]:
    """The same of 100 samples a class at each scale of guidance, and whether they are the class."""
    labels = torch.arange(CLASSES).repeat_interleave(100)
    held_out, true = digits("held_out")
    sets = {f"scale_{s}": (sample_classes(model, labels, s), labels) for s in SCALES}
    sets["held_out"] = (held_out, true)
    figures = _compare({name: images for name, (images, _) in sets.items()})
    classifier = recipes.load("digits-classifier")
    for name, (images, asked) in sets.items():
        found = judge.probabilities(classifier, images).argmax(1)
        figures[name]["accuracy"] = (found == asked).double().mean().item()
    return {"sampler": SAMPLER} | figures


def _compare(sets: dict[str, Tensor]) -> dict[str, dict[str, Any]]:
    """Each set of pictures against MNIST: its test set is what is real, the rest may be copied."""
    classifier = recipes.load("digits-classifier")
    trained_on, _ = mnist("train", drop_offline=True)
    test, _ = mnist("test")
    real = judge.features(classifier, test)
    figures: dict[str, dict[str, Any]] = {}
    for name, images in sets.items():
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
