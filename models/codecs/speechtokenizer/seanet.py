"""SEANet encoder and decoder with a recurrent layer at frame rate (arXiv 2210.13438, section 3.1).

Convolutions reflect at the ends of a row. Each side is two parts around its LSTM, so that the part at sample rate can
run in pieces. B batch, D channels, T samples or frames.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from models.codecs.reach import decoder_reach, encoder_reach
from models.codecs.recurrent import Side
from models.codecs.speechtokenizer.config import Activation, SpeechTokenizerConfig
from models.layers.snake import Snake

KERNEL = 7


class ReflectConv(nn.Module):
    """Convolution whose output has ceil(T / stride) frames; what is missing on either side is reflected."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.stride, self.padding = stride, (kernel - 1) * dilation + 1 - stride
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride, dilation=dilation)

    def forward(self, x_BDT: Tensor) -> Tensor:
        """(B, inputs, T) -> (B, outputs, ceil(T / stride))."""
        length, right = x_BDT.shape[-1], self.padding // 2
        left, right = self.padding - right, right + -length % self.stride
        # A row shorter than its reflection is continued with zeros first.
        short = max(0, max(left, right) - length + 1)
        padded_BDT = functional.pad(functional.pad(x_BDT, (0, short)), (left, right), mode="reflect")
        convolved_BDT: Tensor = self.conv(padded_BDT[..., : padded_BDT.shape[-1] - short])
        return convolved_BDT


class TrimmedTransposedConv(nn.Module):
    """Transposed convolution of kernel 2 * stride whose output has T * stride samples."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.ConvTranspose1d(inputs, outputs, 2 * stride, stride)

    def forward(self, x_BDT: Tensor) -> Tensor:
        """(B, inputs, T) -> (B, outputs, T * stride)."""
        left = self.stride - self.stride // 2
        wide_BDT: Tensor = self.conv(x_BDT)
        return wide_BDT[..., left : left + x_BDT.shape[-1] * self.stride]


class ResidualUnit(nn.Module):
    """Activation, dilated convolution to half the channels, activation, convolution back; a learned shortcut."""

    def __init__(self, channels: int, kernel: int, dilation: int, activation: Activation) -> None:
        super().__init__()
        inner = channels // 2
        self.block = nn.Sequential(
            activate(activation, channels),
            ReflectConv(channels, inner, kernel, dilation=dilation),
            activate(activation, inner),
            ReflectConv(inner, channels, 1),
        )
        self.shortcut = ReflectConv(channels, channels, 1)

    def forward(self, x_BDT: Tensor) -> Tensor:
        """(B, D, T) -> (B, D, T)."""
        changed_BDT: Tensor = self.shortcut(x_BDT) + self.block(x_BDT)
        return changed_BDT


class SkippedLSTM(nn.Module):
    """LSTM over the frames, its input added to each direction's output."""

    def __init__(self, channels: int, n_layers: int, bidirectional: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, n_layers, bidirectional=bidirectional)

    def forward(self, x_BDT: Tensor) -> Tensor:
        """(B, D, T) -> (B, D or 2 D, T)."""
        x_TBD = x_BDT.permute(2, 0, 1)
        read_TBD: Tensor = self.lstm(x_TBD)[0]
        directions = read_TBD.shape[2] // x_TBD.shape[2]
        return (read_TBD + x_TBD.repeat(1, 1, directions)).permute(1, 2, 0)


class Encoder(Side):
    """`front`: samples to frames. `back`: LSTM and the last convolution, over the whole row."""

    def __init__(self, config: SpeechTokenizerConfig) -> None:
        super().__init__()
        channels, kind = config.channels, config.activation
        layers: list[nn.Module] = [ReflectConv(1, channels, KERNEL)]
        for ratio in reversed(config.ratios):
            down = ReflectConv(channels, 2 * channels, 2 * ratio, ratio)
            layers += [*_units(config, channels), activate(kind, channels), down]
            channels *= 2
        wide = 2 * channels if config.bidirectional else channels
        self.front = nn.Sequential(*layers)
        self.back = nn.Sequential(
            SkippedLSTM(channels, config.n_lstm_layers, config.bidirectional),
            activate(kind, wide),
            ReflectConv(wide, config.latent_channels, KERNEL),
        )
        self.piece_context, _ = encoder_reach(self.front)

    def forward(self, wave_BT: Tensor) -> Tensor:
        """Waves -> latents (B, D, ceil(T / hop))."""
        latents_BDT: Tensor = self.back(self.front(wave_BT[:, None]))
        return latents_BDT


class Decoder(Side):
    """`front`: the first convolution and the LSTM, over the whole row. `back`: frames to samples."""

    def __init__(self, config: SpeechTokenizerConfig) -> None:
        super().__init__()
        channels, kind = config.channels * 2 ** len(config.ratios), config.activation
        self.front = nn.Sequential(
            ReflectConv(config.latent_channels, channels, KERNEL),
            SkippedLSTM(channels, config.n_lstm_layers, bidirectional=False),
        )
        layers: list[nn.Module] = []
        for ratio in config.ratios:
            up = TrimmedTransposedConv(channels, channels // 2, ratio)
            layers += [activate(kind, channels), up, *_units(config, channels // 2)]
            channels //= 2
        last = ReflectConv(channels, 1, KERNEL)
        self.back = nn.Sequential(*layers, activate(kind, channels), last)
        self.piece_context = decoder_reach(self.back, config.hop_length)

    def forward(self, latents_BDT: Tensor) -> Tensor:
        """Latents -> waves (B, frames * hop), not bounded to [-1, 1]."""
        wave_B1T: Tensor = self.back(self.front(latents_BDT))
        return wave_B1T[:, 0]


def _units(config: SpeechTokenizerConfig, channels: int) -> list[ResidualUnit]:
    kernel, kind = config.residual_kernel_size, config.activation
    return [ResidualUnit(channels, kernel, dilation, kind) for dilation in config.dilations]


def activate(activation: Activation, channels: int) -> nn.Module:
    """An activation for (B, D, T)."""
    return nn.ELU() if activation == "elu" else Snake(channels)
