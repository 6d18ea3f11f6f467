"""The Descript Audio Codec's manifest."""

from torch import nn

from models.codecs.dac.network import KIND, ConvolutionalModel, build_trainable, load_directory
from models.manifest import Family, Trainable


def _network(model: ConvolutionalModel) -> nn.Module:
    return build_trainable(model.resolve())


FAMILY = Family(
    name="dac",
    trainables=(Trainable("codec_dac", ConvolutionalModel, _network),),
    codecs={KIND: load_directory},
)
