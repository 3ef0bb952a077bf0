"""Several processes make the index that one makes."""

import torch

from diptych.distributed import Peers
from diptych.distributed.failures import FAILURES
from diptych.search import Changes, Index, update
from tests import tiny
from tests.distributed.harness import run_processes


def embed(peers: Peers, folder, photos) -> tuple[Changes, list[int]]:
    heard = list[int]()
    changes = update(
        folder,
        photos,
        tiny.encoder(),
        batch_size=2,
        chunk=4,
        on_progress=lambda done, _: heard.append(done),
        peers=peers,
    )
    return changes, heard


def embed_and_fail(peers: Peers, folder, photos) -> str:
    """The second process can't encode its second batch."""
    encoder = tiny.encoder()
    encode, calls = encoder.model.encode_image, []

    def failing(pixels):
        calls.append(1)
        if peers.rank == 1 and len(calls) == 2:
            raise RuntimeError("no memory")
        return encode(pixels)

    encoder.model.encode_image = failing
    try:
        update(folder, photos, encoder, batch_size=2, chunk=4, peers=peers)
    except FAILURES as error:
        return str(error)
    return ""


def lines(folder):
    index = Index.open(folder)
    return [(picture.path, picture.digest) for picture in index._store.pictures()], index.vectors


def test_two_processes_make_the_index_that_one_makes_and_go_on_with_it(tmp_path):
    photos = tmp_path / "photos"
    tiny.write_pictures(photos)
    expected, _ = embed(Peers(), tmp_path / "one.index", photos)
    found = run_processes(2, embed, tmp_path / "two.index", photos)
    assert [changes for changes, _ in found] == [expected] * 2
    assert found[0][1] == [0, 2, 4, 6, 8, 10, 12]
    one, two = lines(tmp_path / "one.index"), lines(tmp_path / "two.index")
    assert one[0] == two[0]
    assert torch.equal(one[1], two[1])
    tiny.picture("red").save(photos / "red" / "more.png")
    (photos / "broken.png").write_bytes(b"nothing")
    for changes, _ in run_processes(2, embed, tmp_path / "two.index", photos):
        assert (changes.kept, changes.added) == (12, 1)
        [(path, reason)] = changes.unreadable
        assert path == str(photos / "broken.png")
        assert path in reason


def test_an_error_in_one_is_an_error_in_all_and_what_is_written_stays(tmp_path):
    photos = tmp_path / "photos"
    tiny.write_pictures(photos)
    for said in run_processes(2, embed_and_fail, tmp_path / "x.index", photos):
        assert "no memory" in said
    assert len(Index.open(tmp_path / "x.index")) == 4
    again, _ = embed(Peers(), tmp_path / "x.index", photos)
    assert (again.kept, again.added) == (4, 8)
