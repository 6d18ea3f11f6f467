"""Layouts of codec-tokenised speech in other programs; one file per format, each with a writer and a reader.

`write(batches, target, context)` and `read(source, context)` are what `pipelines.datasets.formats.interface` describes.
"""

FORMATS: dict[str, str] = {
    "hf": "pipelines.datasets.formats.hugging_face",
    "valle-hdf5": "pipelines.datasets.formats.valle_hdf5",
    "valle-tree": "pipelines.datasets.formats.valle_tree",
    "webdataset": "pipelines.datasets.formats.webdataset",
}
"""`--format` -> the module that holds it, imported on demand."""
