"""The Descript Audio Codec's manifest."""

from torch import nn

from models.codecs.dac import checkpoint_descript, example
from models.codecs.dac.network import KIND, ConvolutionalModel, build_trainable, load_directory
from models.manifest import Family, Format, Trainable


def _network(model: ConvolutionalModel) -> nn.Module:
    return build_trainable(model.resolve())


FAMILY = Family(
    name="dac",
    trainables=(Trainable("codec_dac", ConvolutionalModel, _network),),
    formats={
        "descript-dac": Format(
            checkpoint_descript.files, checkpoint_descript.convert, "codec", checkpoint_descript.save
        )
    },
    codecs={KIND: load_directory},
    codec_examples={"dac": example.write},
)
