"""Sizes of a U-Net."""

from collections.abc import Sequence
from dataclasses import dataclass

from course.models.resnet import TIME_EMBEDDING_NORMS


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of a U-Net; field names are those of diffusers unless said otherwise.

    Attributes:
        in_channels: channels of x_t.
        out_channels: channels of the prediction.
        block_out_channels: channels at each level, finest first; every level but the last halves
            height and width.
        layers_per_block: residual blocks per level on the way down; one more on the way up.
        norm_num_groups: groups of every normalisation; divides every number of channels.
        norm_eps: added to every variance before its root, but that of the transformers.
        resnet_time_scale_shift: how the time enters a residual block: "default" adds it,
            "scale_shift" scales and shifts after the normalisation.
        num_class_embeds: rows of the table of classes, the last of which stands for no class; None
            for a network that is told none.
        zero_init: start with the last layer of every residual block, of every transformer and of
            the whole at 0. (Ours; it decides the first weights only.)
        cross_attention_dim: width of the tokens that transformers look at; None for a network of
            residual blocks only.
        num_attention_heads: of every attention; divides the channels of every level that attends.
            (In the files of diffusers the number stands as `attention_head_dim`.)
        attention_levels: those whose residual blocks have a transformer behind them, 0 the finest;
            None for all but the last. The middle always has one. (Ours: diffusers spells it out in
            `down_block_types`.)
        projection_class_embeddings_input_dim: width of a vector, as the whole text's, that is
            projected and added to the time embedding; None for a network that takes none.

    Raises:
        ValueError: a size is below 1, something does not divide the channels, there is no such
            level or no such way for the time to enter, or classes and a vector are both asked for.
    """

    in_channels: int = 4
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    resnet_time_scale_shift: str = "default"
    num_class_embeds: int | None = None
    zero_init: bool = False
    cross_attention_dim: int | None = None
    num_attention_heads: int = 8
    attention_levels: tuple[int, ...] | None = None
    projection_class_embeddings_input_dim: int | None = None

    def __post_init__(self) -> None:
        # A list is what JSON gives.
        object.__setattr__(self, "block_out_channels", tuple(self.block_out_channels))
        if self.attention_levels is not None:
            object.__setattr__(self, "attention_levels", tuple(self.attention_levels))
        check_sizes(
            self,
            (
                "in_channels",
                "out_channels",
                "layers_per_block",
                "norm_num_groups",
                "cross_attention_dim",
                "num_attention_heads",
                "projection_class_embeddings_input_dim",
            ),
        )
        if self.resnet_time_scale_shift not in TIME_EMBEDDING_NORMS:
            raise ValueError(
                f"resnet_time_scale_shift: expected one of {TIME_EMBEDDING_NORMS}, "
                f"came {self.resnet_time_scale_shift!r}"
            )
        check_levels(self.block_out_channels, self.norm_num_groups, even=True)
        self._check_added()
        self._check_attention()

    def attends(self, level: int) -> bool:
        """Whether the residual blocks of a level, 0 the finest, have transformers behind them."""
        if self.cross_attention_dim is None:
            return False
        if self.attention_levels is None:
            return level < len(self.block_out_channels) - 1
        return level in self.attention_levels

    def _check_added(self) -> None:
        if self.num_class_embeds is None:
            return
        if self.num_class_embeds < 2:
            raise ValueError(
                "num_class_embeds: expected at least one class and the row for none, "
                f"came {self.num_class_embeds}"
            )
        if self.projection_class_embeddings_input_dim is not None:
            raise ValueError(
                "projection_class_embeddings_input_dim: expected None beside num_class_embeds = "
                f"{self.num_class_embeds}, came {self.projection_class_embeddings_input_dim}"
            )

    def _check_attention(self) -> None:
        levels = len(self.block_out_channels)
        if self.attention_levels is not None:
            if self.cross_attention_dim is None:
                raise ValueError(
                    "attention_levels: expected None without cross_attention_dim, "
                    f"came {self.attention_levels}"
                )
            if not set(self.attention_levels) <= set(range(levels)):
                raise ValueError(
                    f"attention_levels: expected some of 0..{levels - 1}, "
                    f"came {self.attention_levels}"
                )
        if self.cross_attention_dim is None:
            return
        attending = [c for level, c in enumerate(self.block_out_channels) if self.attends(level)]
        for channels in [*attending, self.block_out_channels[-1]]:
            if channels % self.num_attention_heads:
                raise ValueError(
                    f"num_attention_heads: expected a divisor of {channels} channels, "
                    f"came {self.num_attention_heads}"
                )


def check_sizes(config: object, names: Sequence[str]) -> None:
    """Raises ValueError: one of these fields is below 1; None is no size."""
    for name in names:
        size = getattr(config, name)
        if size is not None and size < 1:
            raise ValueError(f"{name}: expected at least 1, came {size}")


def check_levels(channels: tuple[int, ...], groups: int, even: bool = False) -> None:
    """Raises ValueError: there is no level, or the groups do not divide the channels of one."""
    if not channels:
        raise ValueError("block_out_channels: expected at least one level, came ()")
    for width in channels:
        if width < 1 or width % groups or (even and width % 2):
            raise ValueError(
                f"block_out_channels: expected {'even ' * even}multiples of norm_num_groups = "
                f"{groups}, came {channels}"
            )
