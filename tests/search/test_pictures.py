"""Which pictures a place has."""

import io
import os
import tarfile
from dataclasses import replace

import pytest

from diptych.errors import DataError, ImageError
from diptych.inputs.room import room
from diptych.search.pictures import NOT_PICTURES, Listing, Picture, digest, roots
from tests import tiny


def look(*places, exclude=()) -> Listing:
    listing = Listing((*NOT_PICTURES, *exclude))
    for place in places:
        listing.add(str(place))
    return listing


def listed(root) -> tuple[list, list]:
    listing = look(root)
    return list(listing.pictures.values()), list(listing.unread.items())


def png(colour: str) -> bytes:
    stream = io.BytesIO()
    tiny.picture(colour).save(stream, "PNG")
    return stream.getvalue()


def write_shard(path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_folders_in_a_fixed_order_without_what_is_hidden_or_no_picture(tmp_path):
    for name in (
        "b/2.JPG",
        "b/1.webp",
        "a.png",
        "notes.txt",
        ".hidden/x.png",
        "b/.y.png",
        "z/deep/er/c.gif",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found, bad_files = listed(tmp_path)
    assert [os.path.relpath(p.path, tmp_path) for p in found] == [
        "a.png",
        "b/1.webp",
        "b/2.JPG",
        "z/deep/er/c.gif",
    ]
    assert bad_files == []
    assert found[0].size == 1
    assert found[0].mtime_ns == (tmp_path / "a.png").stat().st_mtime_ns


def test_pictures_in_shards_are_read_where_they_lie(tmp_path):
    shard = tmp_path / "00.tar"
    write_shard(shard, {"1.png": png("red"), "1.txt": b"red", "2.png": png("blue"), "2.cls": b"0"})
    found, bad_files = listed(tmp_path)
    assert [picture.path for picture in found] == [f"{shard}/1.png", f"{shard}/2.png"]
    assert [picture.read() for picture in found] == [png("red"), png("blue")]
    assert bad_files == []


def test_a_truncated_shard_is_reported_and_the_rest_of_it_used(tmp_path):
    shard = tmp_path / "00.tar"
    write_shard(shard, {"1.png": png("red"), "2.png": png("blue")})
    shard.write_bytes(shard.read_bytes()[: 512 + len(png("red")) + 1024])
    found, bad_files = listed(shard)
    assert [picture.path for picture in found] == [f"{shard}/1.png"]
    assert [path for path, _ in bad_files] == [str(shard)]


def test_what_is_no_shard_is_reported(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"no tar at all" * 100)
    (tmp_path / "b.png").write_bytes(b"x")
    found, bad_files = listed(tmp_path)
    assert [os.path.basename(picture.path) for picture in found] == ["b.png"]
    assert len(bad_files) == 1


def test_dangling_links_are_reported(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    assert listed(tmp_path) == ([], [(str(tmp_path / "a.png"), "No such file or directory")])


def test_what_is_left_out_is_counted(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "linked").symlink_to(tmp_path / "elsewhere")
    for name in ("a.png", "b.XYZ", "c.xyz", "README"):
        (tmp_path / "photos" / name).write_bytes(b"x")
    listing = look(tmp_path / "photos")
    assert len(listing.pictures) == 1
    assert listing.others == {".xyz": 2, "no ending": 1, "linked folder": 1}


def test_a_pipe_is_reported_and_not_waited_for(tmp_path):
    for name in ("a.jpg", "b.tar"):
        os.mkfifo(tmp_path / name)
    found, bad_files = listed(tmp_path)
    assert found == []
    assert {reason for _, reason in bad_files} == {"is no regular file"}
    with pytest.raises(DataError, match=r"a\.jpg is no regular file"):
        roots(tmp_path / "a.jpg")


@pytest.mark.parametrize("name", ["pairs.csv", "list.jsonl", "captions.txt", "x.tar.gz", "odd"])
def test_files_of_other_kinds_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match="neither a folder, a picture nor a tar shard"):
        roots(tmp_path / name)


def test_shell_patterns_and_several_places(tmp_path):
    for name in ("1.jpg", "0.jpg", "0.tar"):
        (tmp_path / name).write_bytes(b"x")
    expected = [str(tmp_path / name) for name in ("0.jpg", "1.jpg", "0.tar")]
    assert roots([f"{tmp_path}/*.jpg", tmp_path / "0.tar"]) == expected
    with pytest.raises(DataError, match=r"there is no .*\*\.gif"):
        roots(f"{tmp_path}/*.gif")


def test_brace_patterns(tmp_path):
    for name in ("0.tar", "1.tar"):
        write_shard(tmp_path / name, {"1.png": png("red")})
    assert roots(str(tmp_path / "{0..1}.tar")) == [str(tmp_path / "0.tar"), str(tmp_path / "1.tar")]
    with pytest.raises(DataError, match=r"there is no .*2\.tar"):
        roots(str(tmp_path / "{0..2}.tar"))


def test_previews_of_file_servers_and_excluded_names_are_left_out(tmp_path):
    for name in (
        "a.png",
        "@eaDir/a.png/thumb.jpg",
        "#recycle/b.png",
        "c_small.png",
        "d/thumbs/e.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    names = {os.path.relpath(path, tmp_path) for path in look(tmp_path).pictures}
    assert names == {"a.png", "c_small.png", "d/thumbs/e.png"}
    listing = look(tmp_path, exclude=("*_small.*", "thumbs"))
    assert [os.path.relpath(path, tmp_path) for path in listing.pictures] == ["a.png"]
    assert listing.others == {"left out by name": 4}


def picture(path) -> Picture:
    return Picture(path=str(path), size=1, mtime_ns=1)


def test_gone_is_what_is_missing_where_other_things_are(tmp_path):
    for name in ("full", "empty", "closed"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "a.png").write_bytes(b"x")
    (tmp_path / "full" / "link.png").symlink_to(tmp_path / "nowhere")
    listing = look(tmp_path)
    gone = {
        name: listing.is_gone(picture(tmp_path / name))
        for name in ("full/a.png", "full/b.png", "full/link.png", "empty/a.png", "none/a.png")
    }
    assert gone == {
        "full/a.png": False,
        "full/b.png": True,
        "full/link.png": False,  # what it leads to may be on a disk that isn't there
        "empty/a.png": False,
        "none/a.png": False,
    }
    assert listing.unseen(str(tmp_path / "none" / "deep" / "a.png")) == str(tmp_path / "none")
    assert listing.unseen(str(tmp_path / "empty" / "a.png")) == str(tmp_path / "empty")
    assert look(tmp_path / "empty").unseen(f"{tmp_path}/empty/a.png") == f"{tmp_path}/empty"
    assert not look(tmp_path / "empty").covers(f"{tmp_path}/emptyer/a.png")


def test_a_member_is_gone_when_its_shard_was_seen_whole(tmp_path):
    shard = tmp_path / "0.tar"
    write_shard(shard, {"1.png": png("red"), "2.png": png("blue")})
    [first, second] = look(shard).pictures.values()
    write_shard(shard, {"1.png": png("red")})
    assert [look(shard).is_gone(each) for each in (first, second)] == [False, True]
    shard.write_bytes(shard.read_bytes()[:600])
    listing = look(tmp_path)
    assert list(listing.unread) == [str(shard)]
    assert not listing.is_gone(second)
    shard.rename(tmp_path / "1.tar")
    assert look(tmp_path).is_gone(second)


def test_a_shard_that_was_written_anew_shows_no_other_picture(tmp_path):
    shard = tmp_path / "0.tar"
    write_shard(shard, {"1.png": png("red")})
    [old] = look(shard).pictures.values()
    known = replace(old, digest=digest(old.read()))
    assert known == old
    assert known.read() == png("red")
    write_shard(shard, {"1.png": png("blue")})
    with pytest.raises(ImageError, match="the shard was written anew"):
        known.read()


def test_a_file_of_a_gigabyte_is_not_read(tmp_path):
    with open(tmp_path / "a.jpg", "wb") as file:
        file.truncate(1 << 30)
    [giant] = look(tmp_path).pictures.values()
    with pytest.raises(ImageError, match="has 1,073,741,824 bytes, more than"):
        giant.read()


def test_large_files_are_read_one_at_a_time(tmp_path):
    with open(tmp_path / "a.jpg", "wb") as file:
        file.truncate((1 << 25) + 1)
    [large] = look(tmp_path).pictures.values()
    with room.held():
        large.read()
        assert room.free == 0
    assert room.free == room.size
