"""A TFDS builder that writes records as they come: in order, in little memory, without TensorFlow.

TFDS's own writer gathers a split in memory to shuffle it (also when told not to), and past 1 GB spills to disk through
TensorFlow. Reading shuffles anyway, and a known order makes position in the file equal to position in the source.
"""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.core.example_serializer import ExampleSerializer

SHARD_BYTES = 256 << 20


class OrderedBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base of builders whose `_generate_examples` yields (key, example) in the order to be written; keys are not stored.

    Where a Beam runner (or options for one) is asked for, `on_beam` is true before `_split_generators` is called. Generators
    are then Beam transforms of (position, example), and TFDS's own Beam writer sorts them by position.
    """

    on_beam = False

    def __init__(self, **kwargs):
        kwargs.setdefault("file_format", "array_record")
        super().__init__(**kwargs)

    def _generate_splits(self, dl_manager, download_config) -> Sequence[tfds.core.SplitInfo]:
        self.on_beam = download_config.beam_runner is not None or download_config.beam_options is not None
        if self.on_beam:
            return super()._generate_splits(dl_manager, download_config)
        most = download_config.max_examples_per_split
        generators = self._split_generators(dl_manager).items()
        return [self._write_split(name, itertools.islice(examples, most)) for name, examples in generators]

    def _write_split(self, name: str, examples: Iterable) -> tfds.core.SplitInfo:
        """Write one split into shards of about `SHARD_BYTES`; they get their final names when their number is known."""
        features, template = self.info.features, self._get_filename_template(split_name=name)
        serializer = ExampleSerializer(features.get_serialized_info())
        folder, parts, lengths, sizes = Path(template.data_dir), [], [], []
        writer = None
        try:
            for _, example in examples:
                if writer is None:
                    parts.append(folder / f"{name}.part{len(parts)}")
                    writer = ArrayRecordWriter(str(parts[-1]), "group_size:1")
                    lengths.append(0)
                    sizes.append(0)
                # In a fixed order of its fields: as TFDS serialises, every process has an order of its own.
                record = serializer.get_tf_example(features.encode_example(example)).SerializeToString(
                    deterministic=True
                )
                writer.write(record)
                lengths[-1] += 1
                sizes[-1] += len(record)
                if sizes[-1] >= SHARD_BYTES:
                    writer.close()
                    writer = None
        finally:
            if writer is not None:
                writer.close()
        if not parts:
            raise ValueError(f"split {name} of {self.name} must have examples, got none; give it at least one")
        for index, part in enumerate(parts):
            part.rename(str(template.sharded_filepath(shard_index=index, num_shards=len(parts))))
        return tfds.core.SplitInfo(name=name, shard_lengths=lengths, num_bytes=sum(sizes), filename_template=template)
