"""Objectives of the embedded codec: the codec itself, and its waveform head."""

from collections.abc import Mapping
from typing import Any

from trainers.objectives import Objective
from trainers.objectives.codec import CodecObjective
from trainers.objectives.codec_head import CodecHeadObjective

OBJECTIVES: Mapping[str, type[Objective[Any]]] = {"codec": CodecObjective, "codec_head": CodecHeadObjective}
