"""Objectives of the embedded codec: the codec itself, and its waveform head."""

from collections.abc import Mapping

from trainers.objectives import Objective
from trainers.objectives.codec import CodecObjective
from trainers.objectives.codec_head import CodecHeadObjective

OBJECTIVES: Mapping[str, type[Objective]] = {"codec": CodecObjective, "codec_head": CodecHeadObjective}
