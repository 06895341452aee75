"""Captioned scenes: a small world of shapes, drawn, described, and read back without learning."""

from course.data.scenes.captions import caption, caption_holds, describe, false_twins, holds, twins
from course.data.scenes.dataset import CaptionedScenes, Example
from course.data.scenes.grammar import Meaning, Mention, parse, vocabulary, write
from course.data.scenes.layout import SPLITS, draw
from course.data.scenes.read import Unreadable, caption_true, read_scene, scene_true
from course.data.scenes.render import edges, masks, render
from course.data.scenes.world import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT_PAIRS,
    HELD_OUT_RELATIONS,
    RELATIONS,
    SHAPES,
    SIZES,
    Scene,
    Thing,
)

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "HELD_OUT_PAIRS",
    "HELD_OUT_RELATIONS",
    "RELATIONS",
    "SHAPES",
    "SIZES",
    "SPLITS",
    "CaptionedScenes",
    "Example",
    "Meaning",
    "Mention",
    "Scene",
    "Thing",
    "Unreadable",
    "caption",
    "caption_holds",
    "caption_true",
    "describe",
    "draw",
    "edges",
    "false_twins",
    "holds",
    "masks",
    "parse",
    "read_scene",
    "render",
    "scene_true",
    "twins",
    "vocabulary",
    "write",
]
