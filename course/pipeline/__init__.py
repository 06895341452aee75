"""From captions to pictures: the text encoder, the U-Net and the autoencoder put together."""

from course.pipeline.published import load
from course.pipeline.results import AttentionMaps, Images
from course.pipeline.text_to_image import TextToImage, TextToImageConfig

__all__ = ["AttentionMaps", "Images", "TextToImage", "TextToImageConfig", "load"]
