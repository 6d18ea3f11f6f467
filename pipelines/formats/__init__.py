"""How other programs lay out codec-tokenised speech; one file a format, each with a writer and a reader.

`write(batches, target, context)` and `read(source, context)` are what `pipelines.formats.interface` describes.
"""

FORMATS: dict[str, str] = {
    "hf": "pipelines.formats.hugging_face",
    "valle-hdf5": "pipelines.formats.valle_hdf5",
    "valle-tree": "pipelines.formats.valle_tree",
    "webdataset": "pipelines.formats.webdataset",
}
"""`--format` -> the module that holds it, imported when asked for."""
