"""Modalities are joined by id, whatever order their shards have; what does not fit is refused."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from emofuse.core import schema
from emofuse.core.sharding import shard_name
from emofuse.features.reading import JoinedFeatures
from emofuse.features.shards import FeatureError, Row, write_shard

IDS = ["a-0", "a-1", "b-0", "a-2"]
DIM = {"audio": 3, "text": 2}


def number(utterance_id: str) -> int:
    return ord(utterance_id[0]) * 10 + int(utterance_id[2:])


def joined(folder: Path, ids: Mapping[str, Sequence[Sequence[str]]]) -> JoinedFeatures:
    rows = [
        dict.fromkeys(schema.UTTERANCES.names)
        | {"utterance_id": each, "dialogue_id": each[0], "turn": int(each[2:]), "defects": []}
        for each in sorted(IDS)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema.UTTERANCES), folder / "utterances.parquet")
    for modality, shards in ids.items():
        for index, members in enumerate(shards):
            frames = [Row(each, None, np.full((2, DIM[modality]), number(each))) for each in members]
            write_shard(folder / modality / shard_name(index, len(shards)), frames, DIM[modality], {"id": modality})
    return JoinedFeatures(folder, {modality: folder / modality for modality in ids})


def test_utterances_and_dialogues_of_all_modalities(tmp_path: Path) -> None:
    features = joined(tmp_path, {"audio": [IDS], "text": [IDS[::-2], IDS[-2::-2]]})
    assert features.dialogues == {"a": ["a-0", "a-1", "a-2"], "b": ["b-0"]}
    for dialogue, members in features.dialogues.items():
        found = features.dialogue(dialogue)
        assert len(found) == len(members)
        for each, utterance_id in zip(found, members, strict=True):
            for modality, dim in DIM.items():
                expected = torch.full((2, dim), number(utterance_id), dtype=torch.float16)
                torch.testing.assert_close(each[modality], expected, rtol=0, atol=0)
    once, again = (features.utterance("a-1")["text"] for _ in range(2))
    assert once.data_ptr() == again.data_ptr()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (["a-0", "a-1", "b-0"], r"1 utterances .* are missing and 0 .*\['a-2'\]"),
        ([*IDS, "c-0"], r"0 utterances .* are missing and 1 are of another corpus, such as \['c-0'\]"),
        (["a-0", "a-1", "b-0", "c-9"], r"1 utterances .* are missing and 1 .*\['a-2', 'c-9'\]"),
        ([*IDS, "a-0"], "1 utterance ids appear more than once"),
    ],
)
def test_mismatches_are_refused(tmp_path: Path, text: list[str], fault: str) -> None:
    with pytest.raises(FeatureError, match=fault) as error:
        joined(tmp_path, {"audio": [IDS], "text": [text]})
    assert str(error.value).startswith(str(tmp_path / "text"))


def test_strangers_are_refused(tmp_path: Path) -> None:
    features = joined(tmp_path, {"audio": [IDS]})
    with pytest.raises(FeatureError, match="c: no such dialogue"):
        features.dialogue("c")
    with pytest.raises(FeatureError, match=r"no features of 1 utterances, such as \['c-0'\]"):
        features.utterance("c-0")
