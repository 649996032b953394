"""The speech recogniser: its synthesiser, its ear, its networks, and what the program says of files and of its own."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import data
from models import speech
from tests.models.helpers import run, tables

MAN = speech.Speaker(120.0, 1.0, np.ones((len(speech.SOUNDS), 3), np.float32))


def said(words: list[str], who: speech.Speaker = MAN, seed: int = 0, **how: float) -> np.ndarray:
    with mg.seed(seed):
        return speech.synthesise(words, who, **how)


# The synthesiser


def test_nine_and_five_have_no_sound_of_their_own_so_that_no_frame_by_itself_tells_them():
    sounds = {word: set(spelled.split()) for word, spelled in speech.WORDS.items()}
    for word in ("nine", "five"):
        assert sounds[word] <= set().union(*(sounds[other] for other in sounds if other != word))
    assert sounds["nine"] <= sounds["one"] | sounds["five"]
    assert set().union(*sounds.values()) == set(speech.SOUNDS)


@pytest.mark.parametrize("vowel", ["IY", "IH", "EH", "AA", "AO", "AH", "UH", "UW"])
def test_the_tract_resonates_at_the_formants_of_each_vowel(vowel):
    formants = speech.VALUES[speech.SOUNDS[vowel], 1:4]
    loud = np.abs(speech.tract(formants[None]))[0]
    peaks = speech.FREQUENCIES[1:-1][(loud[1:-1] > loud[:-2]) & (loud[1:-1] > loud[2:])]
    spacing = speech.FREQUENCIES[1]
    assert len(peaks) == 3
    assert np.abs(peaks - formants).max() <= spacing


def test_the_tract_is_a_low_pass_that_lets_a_constant_through_and_a_bandwidth_is_that_of_half_the_power():
    width = speech.BANDWIDTHS[0]
    at = lambda f: abs(1 / (1 - (f / 1000) ** 2 + 1j * width * f / 1000**2))
    np.testing.assert_allclose(at(1000 + width / 2) / at(1000), 0.5**0.5, rtol=0.04)
    np.testing.assert_allclose(np.abs(speech.tract(np.array([[500.0, 1500.0, 2500.0]])))[0, 0], 1, rtol=1e-6)


@pytest.mark.parametrize("pitch", [95.0, 140.0, 210.0])
def test_the_voice_has_the_pitch_of_the_speaker(pitch):
    """Of the vowel of "four": its most similar shift is a period, which the fall and the wavering move by up to 19%."""
    x = said(["four"], MAN._replace(pitch=pitch), speed=0.5, noise=60)
    frames = speech.hear(x)
    middle = int(np.argmax(frames[:, :8].mean(axis=1))) * speech.SHIFT
    x = x[max(middle - 500, 0) : middle + 500].astype(float)
    lags = np.arange(int(speech.RATE / pitch / 1.4), int(speech.RATE / pitch * 1.4))
    best = lags[np.argmax([np.corrcoef(x[:-lag], x[lag:])[0, 1] for lag in lags])]
    assert speech.RATE / best / pitch == pytest.approx(1, abs=0.2)


def said_with(vowel: str, factor: float) -> speech.Speaker:
    """A man who has the second resonance of this vowel so many times as high."""
    accent = MAN.accent.copy()
    accent[speech.SOUNDS[vowel], 1] = factor
    return MAN._replace(accent=accent)


@pytest.mark.parametrize(
    "word, who, formant",
    [
        ("three", MAN, 2290),
        ("two", MAN, 870),
        ("two", MAN._replace(scale=1.2), 1.2 * 870),
        ("three", said_with("IY", 0.8), 0.8 * 2290),
    ],
    ids=["three", "two", "two, a woman", "three, with an accent"],
)
def test_the_loudest_band_above_700_hz_of_a_vowel_is_at_its_second_formant(word, who, formant):
    """To within a band, which is a tenth of its frequency or less."""
    frames = speech.hear(said([word], who, speed=0.5, noise=40))
    low = frames[:, :4].mean(axis=1)
    vowel = frames[low > np.quantile(low, 0.8)].mean(axis=0)
    loudest = max(np.flatnonzero(speech.PEAKS > 700), key=lambda band: vowel[band])
    assert speech.PEAKS[loudest] / formant == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("speed", [0.5, 2.0])
def test_speed_divides_the_duration(speed):
    words = ["six", "zero", "seven"]
    normal, other = len(said(words)), len(said(words, speed=speed))
    sounds = 1 + sum(len(speech.WORDS[word].split()) + 1 for word in words)
    ring = speech.SIZE
    assert (other - ring) * speed == pytest.approx(normal - ring, abs=sounds * speech.HOP * max(1, speed))


@pytest.mark.parametrize("decibels", [0.0, 10.0, 20.0])
def test_the_noise_is_so_many_decibels_below_the_speech(decibels):
    words = ["nine", "one", "three", "five", "eight"]
    clean, noisy = said(words, noise=np.inf), said(words, noise=decibels)
    found = 10 * np.log10(np.mean(clean**2) / np.mean((noisy - clean) ** 2))
    assert found == pytest.approx(decibels, abs=0.3)  # of 10,000 samples' power 1.4% is chance, 0.06 decibels


def test_samples_are_floats_in_range_and_the_same_for_a_seed():
    x = said(["two", "two"], noise=0)
    assert x.dtype == np.float32
    assert 0.02 < np.abs(x).max() <= 1
    np.testing.assert_array_equal(x, said(["two", "two"], noise=0))
    assert not np.array_equal(x[:500], said(["two", "two"], noise=0, seed=1)[:500])


def test_speakers_differ_as_people_do():
    people = [speech.speaker() for _ in range(200)]
    scales, pitches = (np.array([getattr(p, name) for p in people]) for name in ("scale", "pitch"))
    assert 0.95 <= scales.min() < 1 and 1.15 < scales.max() <= 1.2
    assert pitches[scales < 1].mean() < 140 < 190 < pitches[scales > 1.15].mean() < 240
    assert np.std(np.log([p.accent for p in people])) == pytest.approx(0.04, abs=0.004)


def test_utterances_have_one_to_five_digits_and_often_the_same_one_twice_in_a_row():
    rows = speech.digits(100, [MAN, speech.speaker()])
    assert [row.line for row in rows] == list(range(1, 101))
    assert {len(row.labels) for row in rows} == {1, 2, 3, 4, 5}
    assert {label for row in rows for label in row.labels} == set(speech.WORDS)
    assert np.mean([any(a == b for a, b in zip(row.labels, row.labels[1:])) for row in rows]) > 0.1
    assert len({len(row.samples) for row in rows}) > 50


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_the_pieces_of_a_sound_sum_to_the_sound(steps, seed):
    x = np.random.default_rng(seed).normal(size=steps * speech.HOP)
    windows = np.fft.irfft(speech.pieces(x), speech.SIZE)
    total = np.zeros(len(x) + 2 * speech.SIZE)
    for i, window in enumerate(windows):
        total[i * speech.HOP : i * speech.HOP + speech.SIZE] += window
    inside = total[speech.HOP : len(x)]  # a window begins a step early, and the last step has only its first half
    np.testing.assert_allclose(inside, x[: len(inside)], rtol=0, atol=1e-5 * np.abs(x).max())


@given(st.integers(2, 30), st.sampled_from([1, 3, 7]))
def test_a_glide_keeps_what_is_constant_and_is_halfway_at_a_jump_of_odd_width(count, steps):
    level = np.full((count, 2), 3.5, np.float32)
    np.testing.assert_allclose(speech.glide(level, steps), level, rtol=1e-6)
    jump = np.repeat(np.array([[0.0], [1.0]], np.float32), count + steps, axis=0)
    smooth = speech.glide(jump, steps)
    assert (np.diff(smooth[:, 0]) >= -1e-6).all()
    np.testing.assert_allclose(smooth + smooth[::-1], 1, atol=1e-6)


# The ear


def test_mel_bands_are_triangles_that_sum_to_one_between_the_first_peak_and_the_last():
    bins = np.fft.rfftfreq(speech.SIZE, 1 / speech.RATE)
    inside = (bins >= speech.PEAKS[0]) & (bins <= speech.PEAKS[-1])
    assert speech.MEL.min() == 0
    np.testing.assert_allclose(speech.MEL[inside].sum(axis=1), 1, atol=1e-12)
    mel = 2595 * np.log10(1 + speech.PEAKS / 700)
    np.testing.assert_allclose(np.diff(mel), np.diff(mel)[0])


@pytest.mark.parametrize("band", [2, 9, 16, 23])
def test_a_tone_is_loudest_in_its_band_however_loud_it_is(band):
    tone = np.sin(2 * np.pi * speech.PEAKS[band] * np.arange(4000) / speech.RATE)
    frames = speech.hear(tone)
    assert frames.shape == (1 + (4000 - 200) // 80, speech.BANDS)
    assert set(frames.argmax(axis=1)) == {band}
    np.testing.assert_allclose(speech.hear(0.01 * tone), frames, atol=1e-3)


@pytest.mark.parametrize("count, frames", [(0, 0), (199, 0), (200, 1), (279, 1), (280, 2)])
def test_a_frame_is_25_ms_and_one_comes_every_10_ms_and_silence_is_finite(count, frames):
    heard = speech.hear(np.zeros(count, np.float32))
    assert heard.shape == (frames, speech.BANDS)
    assert np.isfinite(heard).all()


@pytest.mark.parametrize("rate", [4000, 8000, 11025, 16000, 44100])
def test_a_file_of_any_rate_is_the_same_sound_at_8_khz(tmp_path, rate):
    wave = lambda rate: 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    high = 0.3 * np.sin(2 * np.pi * 6000 * np.arange(rate) / rate) * (rate > 12000)  # which 8 kHz cannot hold
    data.write_wav(tmp_path / "a.wav", rate, wave(rate) + high)
    np.testing.assert_allclose(speech.read_sound(tmp_path / "a.wav"), wave(8000), atol=2 / 32768)


# The measure and what is compared


def oracle_distance(a: tuple, b: tuple) -> int:
    @functools.cache
    def from_here(i: int, j: int) -> int:
        if i == len(a) or j == len(b):
            return len(a) - i + len(b) - j
        return min(from_here(i + 1, j) + 1, from_here(i, j + 1) + 1, from_here(i + 1, j + 1) + (a[i] != b[j]))

    return from_here(0, 0)


@given(*[st.lists(st.integers(0, 2), max_size=6)] * 2)
def test_the_edit_distance_is_the_cheapest_of_all_ways(a, b):
    assert speech.edit_distance(a, b) == oracle_distance(tuple(a), tuple(b))


def test_the_edit_distance_of_kitten_and_sitting_is_3():
    assert speech.edit_distance("kitten", "sitting") == 3


def utterance(labels: str, frames: int = 9) -> speech.Utterance:
    return speech.Utterance(1, labels.split(), np.zeros(0, np.float32), np.zeros((frames, speech.BANDS), np.float32))


def test_the_label_error_rate_counts_edits_over_labels_of_all_utterances_together():
    rows = [utterance("a b c d"), utterance("a"), utterance("")]
    assert speech.error_rate([["a", "c", "d"], ["b"], ["a"]], rows) == 3 / 5  # one taken out, one replaced, one put in
    assert speech.error_rate([["a", "b", "c", "d"], ["a"], []], rows) == 0
    assert speech.error_rate([[], [], []], rows) == 1


def test_the_baseline_that_does_not_listen_says_the_commonest_label_as_often_as_fits():
    known = [utterance("b a b", 30), utterance("a b", 20)]  # 5 labels in 50 frames
    assert speech.by_length(known, [utterance("", 31), utterance("", 4)]) == [["b"] * 3, []]


# The networks


def network(memory: bool) -> speech.Recogniser:
    """Random in all weights: biases of 0 would make nothing of padding that is 0."""
    model = speech.Recogniser(["a", "b"], [0.5] * speech.BANDS, [2.0] * speech.BANDS, memory, "lstm", 8).eval()
    model.load_state_dict({name: mg.random.normal(w.shape, std=0.3) for name, w in model.state_dict().items()})
    return model


@pytest.mark.parametrize("memory", [False, True])
def test_only_the_network_with_memory_hears_what_is_before_and_behind(memory):
    model, random = network(memory), np.random.default_rng(0)
    frames = random.normal(size=(30, speech.BANDS)).astype(np.float32)
    row = utterance("")._replace(frames=frames)
    before = model.read([row])[0].numpy()
    for changed in (0, 29):
        other = frames.copy()
        other[changed] += 1
        after = model.read([row._replace(frames=other)])[0].numpy()
        moved = np.abs(after - before).max(axis=(1, 2)) > 1e-7
        assert moved.sum() == (10 if memory else 1)
        assert moved[changed // speech.STACK]


def test_a_batch_holds_normalised_frames_three_at_a_time_and_the_classes_after_the_blank():
    frames = np.arange(4 * speech.BANDS, dtype=np.float32).reshape(4, -1)
    inputs, lengths, classes = network(False).collate([utterance("b a a")._replace(frames=frames), utterance("", 3)])
    assert inputs.shape == (2, 2, 3 * speech.BANDS)
    assert lengths.tolist() == [2, 1]
    assert classes == [[2, 1, 1], []]
    expected = (np.concatenate([frames, frames[-1:], frames[-1:]]) - 0.5) / 2  # what lacks repeats the last frame
    np.testing.assert_allclose(inputs[:, 0].reshape(6, -1), expected)
    assert (inputs[1, 1] == 0).all()


@pytest.mark.parametrize("width", [None, 4])
def test_an_utterance_is_heard_alike_alone_and_among_others(width):
    model, random = network(True), np.random.default_rng(1)
    rows = [utterance("", n)._replace(frames=9 * random.normal(size=(n, speech.BANDS))) for n in range(3, 90, 4)]
    logits, lengths = model.read(rows)
    for b, row in enumerate(rows):
        alone = model.read([row])[0].numpy()
        np.testing.assert_allclose(logits.numpy()[: lengths[b], b], alone[:, 0], atol=1e-5)
    together = model.write(rows, width)
    assert len(rows) > speech.BATCH and any(together)
    assert together == [model.write([row], width)[0] for row in rows]
    if width:
        best = mg.ctc.beam_decode(model.read(rows[-1:])[0], width=width)[0][0][0]
        assert together[-1] == ["ab"[k - 1] for k in best]


def test_the_picture_names_each_label_where_it_begins_whatever_is_in_it():
    y = np.array([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.2, 0.8, 0.0], [0.9, 0.1, 0.0], [0.0, 1.0, 0.0], [0.1, 0.0, 0.9]])
    drawn = speech.picture(utterance("$x_ _好 $x_", 18), y, ["_", "$x_", "_好"])
    named = [(text.get_text(), round(text.get_position()[0], 3)) for text in drawn.axes[1].texts]
    assert [place for _, place in named] == [0.045, 0.135, 0.165]
    assert [name for name, _ in named][:2] == ["$x_", "$x_"]
    drawn.draw_without_rendering()


# The program


def tones(folder: Path, count: int = 60, rate: int = 8000) -> Path:
    """Recordings of two tones, a pause between them longer than a step: from low to high is "up", else "down".

    Both have the same two tones, so whoever hears each by itself answers both alike, and so half of them wrongly.
    """
    random, lines = np.random.default_rng(0), []
    for i in range(count):
        pause = np.zeros(int(rate * random.uniform(0.08, 0.12)))
        low, high = (np.sin(2 * np.pi * f * np.arange(int(rate * 0.09)) / rate) for f in (500, 1800))
        sound = np.concatenate([pause, low, pause, high, pause][:: 1 if i % 2 else -1])
        noise = 0.004 * (rate / 8000) ** 0.5 * random.normal(size=len(sound))  # as much of it below 4 kHz at any rate
        data.write_wav(folder / f"{i}.wav", rate, 0.4 * sound + noise)
        lines.append(f"{i}.wav\t{'up' if i % 2 else 'down'}\n")
    (folder / "list.tsv").write_text("".join(lines))
    return folder / "list.tsv"


LITTLE = ["--hidden", 8, "--epochs", 20, "--rate", 0.04]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, str]:
    """A folder with a training on tones, and what was printed meanwhile."""
    folder = tmp_path_factory.mktemp("speech")
    code, out, err = run(speech.main, "--data", tones(folder), "--out", folder / "run", *LITTLE)
    assert (code, err) == (0, "")
    return folder, out


def test_memory_hears_the_order_of_two_tones_which_no_network_without_it_can(trained):
    ((row,),) = tables(trained[1])
    assert row["said by"] == "held out"
    assert float(row["recurrent"]) == 0
    assert float(row["memoryless"]) >= 0.3
    assert float(row["by length"]) >= 0.3


def test_the_program_leaves_pictures_a_sound_and_both_networks(trained):
    folder, out = trained
    for name in ("posterior.png", "lattice.png"):
        assert f"picture: {folder / 'run' / name}" in out
        assert (folder / "run" / name).read_bytes().startswith(b"\x89PNG")
    for name in speech.NETWORKS:
        assert (folder / "run" / name / "best.safetensors").is_file()
        assert (folder / "run" / name / "curves.png").is_file()
    rate, sound = data.read_wav(folder / "run" / "example.wav")
    assert rate == speech.RATE
    assert len(sound) in {len(data.read_wav(path)[1]) for path in folder.glob("*.wav")}
    (meant,) = re.findall(r"said '(\w+)', heard '\w+'", out)
    assert meant in ("up", "down")


@pytest.mark.parametrize("number, label", [(0, "down"), (1, "up")])
def test_apply_hears_a_file_with_the_trained_network_and_trains_nothing(trained, number, label):
    folder, _ = trained
    code, out, err = run(speech.main, "--apply", folder / f"{number}.wav", "--out", folder / "run")
    assert (code, err) == (0, "")
    assert out.startswith(f"heard: {label}\n")
    ((first, *_),) = tables(out)
    assert first["labels"] == label
    assert 0.5 < float(first["probability"]) <= 1
    assert "epoch" not in out


def test_a_file_of_another_rate_is_heard_alike(trained, tmp_path):
    tones(tmp_path, 2, rate=22050)
    code, out, err = run(speech.main, "--apply", tmp_path / "1.wav", "--out", trained[0] / "run")
    assert (code, err) == (0, "")
    assert out.startswith("heard: up\n")


@pytest.fixture
def undrawn(monkeypatch) -> None:
    """Pictures, which take most of the time here, are drawn by the training on tones; elsewhere their files do."""
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path: Path(path).touch())


def test_digits_get_a_row_for_each_kind_of_speaker_noise_and_speed_and_a_seed_decides_all(tmp_path, undrawn):
    outs = []
    for i in range(2):
        little = ["--examples", 16, "--epochs", 1, "--hidden", 4, "--cell", "gru", "--seed", 3]
        code, out, err = run(speech.main, *little, "--out", tmp_path / str(i))
        assert (code, err) == (0, "")
        weights, _ = mg.io.load(tmp_path / str(i) / "recurrent" / "best.safetensors")
        outs.append((tables(out), {name: tensor.tolist() for name, tensor in weights.items()}))
    (table,) = outs[0][0]
    assert len(table) == 10
    assert all(float(row["by length"]) > 0.5 for row in table)
    assert outs[0] == outs[1]


def test_help_explains_the_formats():
    code, out, err = run(speech.main, "--help")
    assert (code, err) == (0, "")
    for words in ("--data FILE", "--apply FILE", "--examples N", "WAV file TAB labels"):
        assert words in " ".join(out.split())


# What goes wrong


def failing(arguments: list, *words: str) -> None:
    code, out, err = run(speech.main, *arguments)
    assert code == 2
    assert err.startswith("speech: ") and err.count("\n") == 1, err
    assert all(word in err for word in words), err
    assert "epoch" not in out


@pytest.mark.parametrize(
    "line, words",
    [
        ("a.wav up", ["expected WAV file TAB labels", "no tab"]),
        ("\tup", ["expected the path of a WAV file TAB labels", "no path"]),
        ("none.wav\tup", ["there is no file", "none.wav"]),
        ("list.tsv\tup", ["expected a WAV file", "ffmpeg"]),
        ("0.wav\t" + "a b " * 20, ["expected at most", "got 40, and 0 blanks"]),
        ("0.wav\t" + "a " * 12, ["expected at most", "got 12, and 11 blanks"]),
    ],
    ids=["no tab", "no path", "no file", "no WAV", "too many labels", "no room for blanks"],
)
def test_a_malformed_line_is_named_with_what_was_expected(tmp_path, line, words):
    path = tones(tmp_path, 12)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], line, *lines[2:]]))
    failing(["--data", path, "--out", tmp_path / "run"], f"{path}, line 3: ", *words)


def test_recordings_too_short_or_too_long_are_counted_and_named_and_one_may_say_nothing(tmp_path, undrawn):
    path = tones(tmp_path, 12)
    data.write_wav(tmp_path / "short.wav", 8000, np.zeros(199))
    data.write_wav(tmp_path / "none.wav", 8000, np.zeros(0))
    data.write_wav(tmp_path / "long.wav", 8000, np.zeros(8000 * 31))
    path.write_text(path.read_text() + "short.wav\tup\nnone.wav\tup\nlong.wav\tup\n0.wav\t\n")
    code, out, err = run(speech.main, "--data", path, "--out", tmp_path / "run", "--epochs", 1, "--hidden", 4)
    assert (code, err) == (0, "")
    assert "left out: 2 empty (lines 13, 14)" in out
    assert "left out: 1 longer than 3000 frames of 10 ms (line 15)" in out
    assert "10 utterances to learn from" in out


@pytest.mark.parametrize("content", ["0.wav\tup\n" * 9, "0.wav\t\n" * 12], ids=["too few", "without any label"])
def test_too_few_recordings_or_none_with_a_label_get_one_clear_line(tmp_path, content):
    path = tones(tmp_path, 1)
    path.write_text(content)
    failing(
        ["--data", path, "--out", tmp_path / "run"], f"{path}: expected 10 recordings or more, and some with labels"
    )


def test_what_cannot_be_applied_gets_one_clear_line(trained, tmp_path):
    folder = trained[0]
    data.write_wav(tmp_path / "short.wav", 8000, np.zeros(100))
    failing(["--apply", tmp_path / "short.wav", "--out", folder / "run"], "0.013 s of sound are too short", "25 ms")
    failing(["--apply", tmp_path / "none.wav", "--out", folder / "run"], "there is no file")
    failing(["--apply", folder / "0.wav", "--out", tmp_path / "new"], "there is no trained network")
