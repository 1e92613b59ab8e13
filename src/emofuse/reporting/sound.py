"""Sound files of the turns in a report, for the browser to play."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from emofuse.core.files import replace_directory, write_json
from emofuse.core.layout import Layout
from emofuse.reporting.turns import shown_utterances
from emofuse.tasks import Task

__all__ = ["write_sound"]


def write_sound(task: Task, layout: Layout) -> None:
    """Write ``data/sound/<task>/``: FLAC files, named by the digest of their samples, and a list in ``index.json``.

    Args:
        task: with its test labels
        layout: the project's folders
    """
    shown, _ = shown_utterances(task, layout)
    names = dict(shown.filter(shown["sound"].is_not_null()).select("utterance_id", "sound").iter_rows())
    wanted = pa.array(names, pa.string())
    with replace_directory(layout.sound(task.name)) as folder:
        # Of a corpus without sound too there is a file, since DVC warns of folders without any.
        write_json(folder / "index.json", names)
        for shard in sorted((layout.corpus(task.corpus) / "audio").glob("*.parquet")):
            for batch in pq.ParquetFile(shard).iter_batches(64):
                rows = batch.filter(pc.is_in(batch["utterance_id"], value_set=wanted))
                for row in rows.to_pylist():
                    (folder / names[row["utterance_id"]]).write_bytes(row["audio"]["bytes"])
