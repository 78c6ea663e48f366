from tiny_training import maker

from audioflamingo.train.data import load_corpus, parse_mixture
from audioflamingo.train.replay import write_replay


def test_replayed_rows_are_good_rows_and_the_same_from_the_same_seed(base, tmp_path):
    for folder in ("a", "b"):
        file = write_replay(tmp_path / folder, 6, seed=4)
        corpus = load_corpus(parse_mixture(str(file)), maker(base))
        assert len(corpus.samples) == corpus.num_rows == 6
    written = [(tmp_path / folder / file.name).read_bytes() for folder in ("a", "b")]
    assert written[0] == written[1]
    sizes = [{path.name: path.stat().st_size for path in (tmp_path / folder).iterdir()} for folder in ("a", "b")]
    assert sizes[0].keys() == sizes[1].keys()
    before = file.stat().st_mtime_ns
    assert write_replay(tmp_path / "b", 6, seed=4) == file
    assert file.stat().st_mtime_ns == before
