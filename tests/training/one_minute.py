"""CLIP on scenes in a minute of two cores: `OMP_NUM_THREADS=1 python tests/training/one_minute.py`.

Each encoder has a thread of its own, forward and backward: two threads that share a small product
mostly wait for each other. A worker draws the batches meanwhile.
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from course.data.scenes.dataset import CaptionedScenes
from course.data.scenes.render import render
from course.metrics.retrieval import truth
from course.models.clip import MAX_LOGIT_SCALE, CLIPConfig, contrastive_loss
from course.models.configs import SCENES_CLIP
from course.training import recipes
from course.training.contrastive import measure_split, tokens_of

STEPS, SIZE, WIDTH, RATE = 1250, 96, 64, 3e-3


class Batches(IterableDataset):
    """Pictures, tokens, and which captions are true of which picture."""

    def __init__(self):
        self.data = CaptionedScenes(STEPS * SIZE)

    def __iter__(self):
        for step in range(STEPS):
            examples = self.data.examples(range(step * SIZE, (step + 1) * SIZE))
            scenes = [e.scene for e in examples]
            tokens = tokens_of([e.caption for e in examples])
            yield render(scenes), tokens, truth(scenes, [e.meaning for e in examples])


def main():
    start = time.monotonic()
    sizes = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 1}
    text, vision = replace(SCENES_CLIP.text, **sizes), replace(SCENES_CLIP.vision, **sizes)
    model = recipes.build(CLIPConfig(text, vision, WIDTH), seed=0).train()
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.05, fused=True)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, STEPS, pct_start=0.1)
    batches = DataLoader(Batches(), batch_size=None, num_workers=1, prefetch_factor=8)
    with ThreadPoolExecutor(1) as other:
        for pictures, tokens, true in batches:
            texts = other.submit(model.encode_text, tokens)
            sides = model.encode_image(pictures), texts.result()
            a, b = (side.detach().requires_grad_() for side in sides)
            scale = model.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
            optimizer.zero_grad()
            contrastive_loss(scale * a @ b.T, true).backward()
            done = other.submit(sides[1].backward, b.grad)
            sides[0].backward(a.grad)
            done.result()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            plan.step()
    seconds = time.monotonic() - start
    seen = measure_split(model.eval(), CaptionedScenes(50 * 64, "test", seed=1))
    print(json.dumps(seen | {"steps": STEPS, "batch": SIZE, "seconds": seconds}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
