"""The row of a report, by hand, and what it costs the processes to make it."""

from dataclasses import replace

import torch

from diptych.config import TrackConfig
from diptych.distributed import Peers
from diptych.training import fit, read_metrics
from diptych.training.assemble import assemble
from diptych.training.loop import Meter
from diptych.training.progress import Bar
from tests.training.runs import small_run


def numbers(*values):
    return [torch.tensor(value) for value in values]


def test_means_over_steps_and_peers_and_the_last_counts(tmp_path):
    """Two processes, two steps."""
    peers, state = Peers(size=2), assemble(small_run(tmp_path / "run"), Peers())[0]
    state.step, state.samples = 7, 56
    counted = {"first": 0, "second": 3}
    meters = [Meter(8, lambda name=name: {"bad_samples": counted[name]}) for name in counted]
    losses = [numbers(1.0, 2.0), numbers(3.0, 6.0)]
    for step, both in enumerate(losses):
        counted["first"] = step + 1
        own = [
            meter.own({"loss": loss}, torch.tensor(0.5), peers)
            for meter, loss in zip(meters, both, strict=True)
        ]
        for meter in meters:
            meter.add(own[0] + own[1], rate=0.1)
    rows = [meter.report(state, peers)() for meter in meters]
    for row in rows:
        assert (row["loss"], row["grad_norm"], row["bad_samples"]) == (3.0, 0.5, 5)
        assert (row["step"], row["samples"], row["lr"]) == (7, 56, 0.1)
    meters[0].add(meters[0].own({"loss": torch.tensor(4.0)}, torch.tensor(1.0), Peers()), 0.1)
    assert meters[0].report(state, Peers())()["loss"] == 4.0  # a fresh start


def test_a_report_sends_nothing_more(tmp_path, monkeypatch):
    """All that processes tell each other of a step goes with one all-reduce; the others are the
    loss's."""
    counts = list[int]()
    real = Peers.sum

    def counting(peers, local):
        counts[-1] += 1
        return real(peers, local)

    monkeypatch.setattr(Peers, "sum", counting)
    for often in (1, 100):
        counts.append(0)
        out = tmp_path / str(often)
        track = TrackConfig(every_steps=often)
        fit(replace(small_run(out), steps=4, track=track), progress=False)
        reported = [row["step"] for row in read_metrics(out / "metrics.jsonl")]
        assert reported == ([1, 2, 3, 4] if often == 1 else [4])
    assert counts == [8, 8]  # InfoNCE has one of its own


def test_what_is_measured_on_the_way_costs_no_speed(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    state = assemble(small_run(tmp_path / "run"), Peers())[0]
    meter = Meter(8)
    with meter.paused():
        clock[0] += 100.0
    meter.add(meter.own({"loss": torch.tensor(1.0)}, torch.tensor(1.0), Peers()), rate=0.1)
    clock[0] += 2.0
    row = meter.report(state, Peers())()
    assert (row["samples_per_second"], row["seconds"]) == (4.0, 102.0)


def test_who_waits_for_data_how_long(tmp_path, monkeypatch, capsys):
    """Three processes, two steps of 10 seconds: they wait 0, 1 and 0, then 2, 7 and 0 seconds."""
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    state = assemble(small_run(tmp_path / "run"), Peers())[0]
    state.step = 2
    waits = [(0.0, 2.0), (1.0, 7.0), (0.0, 0.0)]
    meters = [Meter(8) for _ in waits]

    def batches(own):
        for wait in own:
            clock[0] += wait
            yield numbers(0.0)

    waiting = [meter.waiting(batches(own)) for meter, own in zip(meters, waits, strict=True)]
    for step in range(2):
        own = []
        for rank, (meter, arriving) in enumerate(zip(meters, waiting, strict=True)):
            clock[0] = 10.0 * step
            next(arriving)
            own.append(meter.own({"loss": torch.tensor(1.0)}, torch.tensor(1.0), Peers(rank, 3)))
        for meter in meters:
            meter.add(sum(own), rate=0.1)
    clock[0] = 20.0
    for rank, meter in enumerate(meters):
        row = meter.report(state, Peers(rank, 3))()
        assert row["data_wait"] == round((2 + 8 + 0) / 20 / 3, 4)
        assert (row["data_wait_max"], row["data_wait_rank"]) == (0.4, 1)
    Bar(0, 2)(row)
    assert "data wait 17% (rank 1: 40%)" in capsys.readouterr().err
    Bar(0, 2)(row | {"data_wait_max": 0.17})
    assert "(rank" not in capsys.readouterr().err
