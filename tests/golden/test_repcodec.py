"""RepCodec's own numbers: features, latents, codes by both metrics, reconstruction, losses."""

import pytest
import torch
from torch.nn import functional as F

from models.codecs.factorized import quantization_errors

COMMITMENT, CODEBOOK = 0.15, 1.0


def features(section):
    return (section["raw"] - section["mean"]) / section["var"].sqrt()


def encode(section):
    module, feat = section.module, features(section)
    encoded = section.record(module.encoder_head)
    z, ids = module.encode(feat)
    _, ids_euclid = module.encode(feat, metric="euclidean")
    emb = module.embed(ids)
    return {
        "feat": feat,
        "enc": encoded[0].transpose(1, 2),
        "z": z,
        "ids": ids,
        "ids_euclid": ids_euclid,
        "emb": emb,
        "vq2emb": emb.transpose(1, 2),
    }


def decode(section):
    module, feat = section.module, features(section)
    _, ids = module.encode(feat)
    # The quantizer's losses are zero outside training.
    return {
        "ids": ids,
        "decoded": module.decode(module.embed(ids)),
        "x_rec": module(feat),
        "loss": torch.tensor(0.0),
        "all_indices": ids[None],
    }


def train(section):
    module, feat = section.module, features(section)
    # The number of quantizers drawn per row changes nothing where there is one.
    section.draws.take("randint", len(feat))
    z, ids = module.encode(feat)
    vectors = F.embedding(ids, module.codebook.vectors_Vc)
    commitment_B, codebook_B = quantization_errors(z, vectors, torch.ones(z.shape[:2]))
    loss = (COMMITMENT * commitment_B + CODEBOOK * codebook_B).mean()
    return {"x_rec": module.reconstruct(z, ids), "loss": loss, "all_indices": ids[None]}


@pytest.mark.golden(
    "raoabinav/versaface_autoencoder", "models.codec.kmeans.repcodec_model.RepCodec", "amphion-repcodec"
)
def test_repcodec(section):
    section.run({"encode": encode, "decode": decode, "train": train})
