"""An open-vocabulary English voice: from sentences to recordings, codes, two networks and word errors.

    python -m benchmarks.bench_voice all --work FOLDER [--kathleen FOLDER] [--hours 5] [--minutes 20] [--small]

`corpus` lets the Piper voice `joe` say verses (the program `bible` of Debian's bible-kjv, or lines of `--sentences`)
and sentences of our own for `--hours`; `carry` prepares them and writes FOLDER/carried-full, all that a training reads;
`train` trains both networks for `--minutes` together; `judge` lets Whisper tiny.en hear the held-out sentences as
recorded, through the codec, and said by the system at shares of its training. `all` is these in turn. Each goes on
where it stopped, a training also with more minutes. `--small` is for a dry run: two cores are too slow for the voice.
On a GPU: `python -m benchmarks.gpu --sections voice --voice FOLDER/carried-full --out OUT`, then here
`join OUT/voice`, which `judge` judges, and from which `train`, or after `carry` another GPU, goes on.

The last line is JSON; that of `judge` is kept in `--results`.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks import voice_training as voice
from benchmarks.digits_corpus import REPOSITORY, speechmill, whisper
from benchmarks.voice_corpus import held_out, read_table, record
from benchmarks.voice_sentences import sentences
from catalog.command import JobError
from catalog.datasets import Dataset
from catalog.files import write_bytes, write_text, written_aside
from models.checkpoints import Record, Values
from models.codec_sources import load_codec
from models.codecs.interface import Codec
from models.text.phonemes import phonemize
from pipelines.audio.decode import decode
from pipelines.datasets.decode_rows import to_flac
from pipelines.evaluation.judge import SAMPLE_RATE, Judge
from pipelines.evaluation.judgements import judge_folder
from pipelines.evaluation.settings import EvaluateSettings, Judges, judges_of
from pipelines.evaluation.summary import Figure, table
from pipelines.speech.transcription.interface import TranscribeSettings
from trainers.checkpoint import Checkpoints
from trainers.fit import resolve
from trainers.run import build
from trainers.settings import load_fit

RESULTS = Path(__file__).parent / "results" / "voice.json"
CONFIGS = REPOSITORY / "configs" / "voice"
SMALL = (
    *("model.hidden_size=128", "model.n_layers=4", "model.n_heads=4", "model.feed_forward_size=512"),
    *("data.batch.frames_threshold=2048", "loop.precision=fp32", "loop.optim.lr=2e-3", "loop.ema_decay=0.99"),
    *("loop.validate_every=100", "loop.validation_batches=16"),
)
BATCH = 16
"""Recordings judged before what was found is written."""


class Bench:
    """The folders of one size."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.given, self.work = arguments, arguments.work.absolute()
        self.size = "small" if arguments.small else "full"
        self.carried, self.runs = self.work / f"carried-{self.size}", self.work / f"runs-{self.size}"
        self.spoken = self.work / f"spoken-{self.size}"

    def corpus(self) -> Record:
        """Record what is trained on, and the held-out sentences."""
        hours = record(self.work / "corpus", sentences(self.given.sentences), self.given.hours)
        for name, texts in held_out(self.given.kathleen).items():
            record(self.work / "held_out" / name, texts[: self.given.held_out])
        return {"hours": round(hours, 3)}

    def carry(self) -> Record:
        """Prepare the dataset; put all that a training needs of it, and the weights so far, in one folder."""
        dataset = self._prepared()
        with written_aside(self.carried, overwrite=True) as aside:
            aside.mkdir()
            for role in voice.ROLES:
                write_text(aside / f"{role}.json", json.dumps(self._plan(role, dataset), indent=1))
                if Checkpoints(self.runs / role).latest():
                    voice.pack(voice.nearest(self.runs, role, 1), aside, role)
            for split in ("train", "validation"):
                for at, path in enumerate(Dataset.open(dataset).file_uris(split)):
                    write_bytes(aside / f"{split}-{at:03d}.parquet", Path(path).read_bytes())
            write_text(aside / "held_out.json", json.dumps(list(self._to_say()), ensure_ascii=False))
        return {"carried": str(self.carried)}

    def _prepared(self) -> str:
        dataset, corpus = self.work / "dataset", self.work / "corpus"
        wanted = len(read_table(corpus))
        if not dataset.is_dir() or Dataset.open(str(dataset)).totals().recordings != wanted:
            config = ["--config", str(CONFIGS / "prepare.yaml"), "--workers", "1"]
            speechmill("prepare", str(corpus / "table.csv"), str(dataset), *config)
        return str(dataset)

    def _plan(self, role: str, dataset: str) -> Record:
        """The resolved settings of a training, as `voice.Carried` reads them."""
        overrides = (f"data.dataset={dataset}", f"output={self.runs / role}", *(SMALL * self.given.small))
        settings = load_fit(CONFIGS / f"{role}.yaml", overrides)
        run = build(settings, resolve(settings.data))
        assert run.validation is not None
        return {
            **{key: run.identity[key] for key in ("family", "model", "objective")},
            "batch": asdict(settings.data.batch),
            "loop": asdict(settings.loop),
            "data": asdict(run.objective.data),
            "rows": {"train": run.batches.store.digest, "validation": run.validation.store.digest},
        }

    def _to_say(self) -> Iterator[Values]:
        for folder in sorted((self.work / "held_out").iterdir()):
            for row in read_table(folder):
                phones = phonemize([row["text"]], "en")[0]
                about = {"id": Path(row["file"]).stem, "set": folder.name, "text": row["text"]}
                yield about | {"phones": phones}

    def train(self) -> Record:
        """Train both networks for half of the minutes each, on a GPU if there is one."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        half = self.given.minutes / len(voice.ROLES)
        found = {role: voice.train(self.carried, self.runs, role, half, device) for role in voice.ROLES}
        if any(outcome.stopped == "interrupted" for outcome in found.values()):
            raise JobError("interrupted; the same command goes on")
        return {
            role: {"steps": one.step, "validation_loss": one.validation_loss} for role, one in found.items()
        }

    def join(self) -> Record:
        """Take over what a GPU wrote: weights to go on from, and what the system said before."""
        folder, found = self.given.pieces, {}
        if folder is None:
            raise JobError("join: name the folder of the pieces")
        for role in voice.ROLES:
            checkpoint = voice.unpack(folder, role, self.runs)
            found[role] = None if checkpoint is None else voice.step_of(checkpoint)
        for name in sorted({path.name.rpartition("-")[0] for path in folder.glob("said-*.part")}):
            said = voice.read_pieces(folder, name)
            assert said is not None
            self._keep(name.removeprefix("said-"), said)
        return found

    def _keep(self, name: str, said: Values) -> None:
        for key, wave_T in said["waves"].items():
            write_bytes(self.spoken / name / f"{key}.flac", to_flac(wave_T.numpy() / 32768, SAMPLE_RATE))
        about = {key: said[key] for key in ("steps", "minutes")}
        write_text(self.spoken / name / "about.json", json.dumps(about))

    def _speak(self) -> None:
        """Let the systems that there are say what they have not said: our own sentences, the newest one all."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        for share in (*voice.EARLIER, 1):
            name, _ = voice.said(self.carried, self.runs, share, device, ())
            wanted = [one for one in voice.held_out(self.carried) if share == 1 or one["set"] == "own"]
            missing = [one for one in wanted if not (self.spoken / name / f"{one['id']}.flac").exists()]
            if missing:
                self._keep(*voice.said(self.carried, self.runs, share, device, missing))

    def judge(self) -> Record:
        """Word errors of recordings, codec and systems on each set of sentences."""
        sets = {folder.name: read_table(folder) for folder in sorted((self.work / "held_out").iterdir())}
        codec = Dataset.open(str(self.work / "dataset")).codec
        ears = Ears(self.work / "judged", sets)
        found: Record = {
            "benchmark": "voice",
            "recogniser": ears.judges.recogniser_name,
            "codec_source": codec.source,
            "hours": round(Dataset.open(str(self.work / "dataset")).totals().hours, 3),
            "recordings": ears.hear("recordings", self.work / "held_out", by_set=True),
            "codec": ears.hear("codec", self._through(codec.source, sets), by_set=True),
            "systems": {},
        }
        if self.given.results.exists():
            found["systems"] = json.loads(self.given.results.read_text(encoding="utf-8"))["systems"]
        if all(Checkpoints(self.runs / role).latest() for role in voice.ROLES):
            self._speak()
            found["systems"][self.size] = self._system(ears)
        write_text(self.given.results, json.dumps(found, indent=1) + "\n")
        return found

    def _through(self, codec_source: str, sets: Mapping[str, Sequence[Values]]) -> Path:
        """The recordings through the codec."""
        codec: Codec = load_codec(codec_source)
        folder: Path = self.work / "coded"
        for name, rows in sets.items():
            for row in rows:
                target = folder / name / row["file"]
                if not target.exists():
                    samples = decode(self.work / "held_out" / name / row["file"], codec.sample_rate).samples
                    with torch.inference_mode():
                        codes = codec.encode(torch.tensor(samples)[None], torch.tensor([len(samples)]))
                        made = codec.decode(codes).wave_BT[0, : len(samples)].numpy()
                    write_bytes(target, to_flac(made, codec.sample_rate))
        return folder

    def _system(self, ears: Ears) -> Record:
        """Figures of the system over the training."""
        points = []
        for folder in self.spoken.iterdir():
            about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
            points.append({**about, **ears.hear(f"{self.size}-{folder.name}", folder, by_set=False)})
        networks = {role: voice.Carried(self.carried, role).objective() for role in voice.ROLES}
        sizes = {role: sum(p.numel() for p in network.parameters()) for role, network in networks.items()}
        return {
            "parameters": sizes,
            "options": dict(voice.OPTIONS),
            "curve": sorted(points, key=lambda point: point["minutes"]),
            "losses": {role: voice.losses(self.runs, role) for role in voice.ROLES},
            "machine": {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)},
        }


class Ears:
    """The judges of `speechmill evaluate`, its recogniser alone; what was judged is kept."""

    def __init__(self, folder: Path, sets: Mapping[str, Sequence[Values]]) -> None:
        transcribe = TranscribeSettings(model=str(whisper()), language="en")
        settings = EvaluateSettings.model_validate(
            {"transcribe": transcribe, "speaker": None, "dnsmos": False}
        )
        self.judges: Judges = judges_of(settings)
        self._judge, self._folder, self._sets = Judge(settings, self.judges, "cpu"), folder, sets

    def hear(self, name: str, recordings: Path, *, by_set: bool) -> Record:
        """Figures by set of the recordings that there are, in a folder or in one for each set."""
        found: Record = {}
        for of, rows in self._sets.items():
            place = recordings / of if by_set else recordings
            to_judge = [self._row(row, place) for row in rows if (place / row["file"]).exists()]
            if to_judge:
                into = self._folder / name / of
                into.mkdir(parents=True, exist_ok=True)
                judged, _ = judge_folder(into, to_judge, self.judges, self._in_batches, BATCH)
                found[of] = {key: _rounded(figure) for key, figure in table({of: judged})[of].items()}
        return found

    def _in_batches(self, rows: Sequence[Record]) -> Iterator[Record]:
        """Kept one by one, so that a rerun goes on."""
        for at in range(0, len(rows), BATCH):
            yield from self._judge.judge(rows[at : at + BATCH])

    @staticmethod
    def _row(row: Values, place: Path) -> Record:
        about = {"id": Path(row["file"]).stem, "wave": str(place / row["file"]), "text": row["text"]}
        return about | {"language": "en", "prompt": None, "reference": None}


def _rounded(figure: Figure) -> Record:
    return {key: round(value, 4) for key, value in asdict(figure).items()}


STEPS = ("corpus", "carry", "train", "judge")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=("all", *STEPS, "join"))
    parser.add_argument("pieces", type=Path, nargs="?", help="of join: the folder that a GPU wrote")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument("--hours", type=float, default=5.0, help="of recordings")
    parser.add_argument("--sentences", type=Path, help="public-domain text, a sentence a line")
    parser.add_argument("--held-out", type=int, default=100, help="sentences of each set at most")
    parser.add_argument("--kathleen", type=Path, help="folder with metadata.csv, whose texts are held out")
    parser.add_argument(
        "--minutes", type=float, default=20.0, help="of training in all; on a CPU of its time"
    )
    parser.add_argument("--small", action="store_true", help="networks of 2 and 4 M parameters")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    bench, found = Bench(arguments), dict[str, Any]()
    try:
        for step in STEPS if arguments.step == "all" else (arguments.step,):
            found = getattr(bench, step)()
    except (JobError, ValueError, OSError) as error:
        parser.exit(1, f"bench_voice {arguments.step}: {error}\n")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
