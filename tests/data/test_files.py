"""Files: what was written is read back, and what is wrong is named by file, line and cure."""

from __future__ import annotations

import csv
import io
import re
import struct
import wave

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import data
from minigrad.errors import ArgumentError, DtypeError, FileFormatError, MissingFileError, ShapeError

READERS = [data.read_text, data.read_tagged, data.read_labelled, data.read_pairs, data.read_wav]
READERS += [lambda path: data.read_column(path, 0)]

# Any characters that stand on a line of their own file: no end of a line, and nothing that UTF-8 cannot say.
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\n\r")
LINE = st.text(CHARACTERS, max_size=12)
CELL = LINE.map(lambda text: text.replace("\t", ""))
WORD = CELL.map(lambda text: text.strip(" ")).filter(lambda text: text and text != "-DOCSTART-")
ENDS = st.sampled_from(["\n", "\r\n"])
MARK = st.sampled_from(["utf-8", "utf-8-sig"])


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A path that all examples of a test write to in turn."""
    return tmp_path_factory.mktemp("data") / "file"


def write(path, content, encoding="utf-8"):
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def unmarked(text):
    """Without a byte order mark at its beginning, which no reader could tell from one that marks the encoding."""
    return text.lstrip("\ufeff")


@given(st.lists(LINE).map(lambda lines: [unmarked(lines[0]), *lines[1:]] if lines else lines), ENDS, MARK)
def test_a_text_is_read_as_it_was_written_whatever_ends_its_lines(file, lines, end, encoding):
    write(file, end.join(lines), encoding)
    assert data.read_text(file) == data.read_text(str(file)) == "\n".join(lines)


@given(
    sentences=st.lists(st.lists(st.tuples(WORD, WORD), min_size=1, max_size=4), min_size=1, max_size=4),
    between=st.lists(st.sampled_from(["", "  ", "\t", "-DOCSTART-", "-DOCSTART-\tO"]), min_size=1, max_size=3),
    middle=st.lists(st.sampled_from(["NN", "", "I-NP"]), max_size=2),
    end=ENDS,
    encoding=MARK,
)
def test_tagged_sentences_are_read_as_they_were_written_and_where_they_began(
    file, sentences, between, middle, end, encoding
):
    lines, begins = [*between], []
    for sentence in sentences:
        begins.append(len(lines) + 1)
        lines += ["\t".join([word, *middle, tag]) for word, tag in sentence]
        lines += between
    found = data.read_tagged(write(file, end.join(lines), encoding))
    assert [[*zip(each.words, each.tags)] for each in found] == sentences
    assert [each.line for each in found] == begins


@given(st.lists(st.tuples(WORD, WORD), min_size=1), st.integers(1, 3))
def test_words_and_tags_without_blanks_may_be_separated_by_blanks(file, rows, blanks):
    rows = [tuple(part.replace(" ", "_") for part in row) for row in rows]
    write(file, "".join(f" {word}{' ' * blanks}{tag} \n" for word, tag in rows))
    [sentence] = data.read_tagged(file)
    assert [*zip(sentence.words, sentence.tags)] == rows


def test_the_four_columns_of_conll_2003_give_word_and_entity(file):
    write(file, "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\nPeter NNP B-NP B-PER\n")
    eu, peter = data.read_tagged(file)
    assert eu == data.Tagged(3, ["EU", "rejects"], ["B-ORG", "O"])
    assert peter == (6, ["Peter"], ["B-PER"])


BLANK_END = st.sampled_from(["", "\n", "\n\n", "\r\n \r\n"])


@given(st.lists(st.tuples(CELL.map(str.strip).filter(bool), CELL), min_size=1), ENDS, BLANK_END, MARK)
def test_labelled_texts_are_read_as_they_were_written_also_the_empty_ones(file, rows, end, blank, encoding):
    rows = [(unmarked(label) or "x", text) for label, text in rows]
    rows = [(label.strip() or "x", text) for label, text in rows]
    write(file, end.join(f"{label}\t{text}" for label, text in rows) + blank, encoding)
    assert data.read_labelled(file) == [(i, label, text) for i, (label, text) in enumerate(rows, 1)]


@given(st.lists(st.tuples(CELL.map(unmarked), CELL), min_size=1), ENDS, BLANK_END, MARK)
def test_pairs_are_read_as_they_were_written_also_the_empty_ones(file, rows, end, blank, encoding):
    write(file, end.join(f"{source}\t{target}" for source, target in rows) + blank, encoding)
    found = data.read_pairs(file)
    assert found == [(i, source, target) for i, (source, target) in enumerate(rows, 1)]
    assert (found[0].line, found[0].source, found[0].target) == (1, *rows[0])


NUMBERS = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=8)
NAMES = CELL.map(unmarked).map(str.strip).filter(lambda name: not re.search(r"\d", name) and not numeric(name))


def numeric(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


@given(NUMBERS, st.lists(NAMES, min_size=1, max_size=4, unique=True), st.data(), ENDS, MARK)
def test_a_column_is_read_as_it_was_written_by_name_and_by_position_with_and_without_a_header(
    file, values, names, draw, end, encoding
):
    place = draw.draw(st.integers(0, len(names) - 1))
    rows = [[repr(value) if i == place else str(i) for i in range(len(names))] for value in values]

    def written(rows):
        text = io.StringIO()
        csv.writer(text, lineterminator=end).writerows(rows)
        return write(file, text.getvalue() + end, encoding)

    written(rows)
    for column in (place, str(place), np.int64(place)):
        assert data.read_column(file, column).tolist() == values
    written([names, *rows])
    for column in (place, str(place), names[place]):
        found = data.read_column(file, column)
        assert found.tolist() == values and found.dtype == np.float64 and found.shape == (len(values),)


def test_a_cell_in_quotes_may_have_commas_and_lines_and_errors_after_it_still_name_their_line(file):
    write(file, 'note,x\n"a, b\nand c",1\nplain,2\n')
    assert data.read_column(file, "x").tolist() == [1, 2]
    write(file, 'note,x\n"a, b\nand c",1\nplain,two\n')
    with pytest.raises(FileFormatError, match=r"line 4: expected a finite number in column 'x', got 'two'"):
        data.read_column(file, "x")


@pytest.mark.parametrize(
    "read, content, message",
    [
        (data.read_tagged, "a\tDET\nb\n", r"line 2: expected word TAB tag, got 'b'"),
        (data.read_tagged, "a\tDET\n\n\nb\t\n", r"line 4: expected word TAB tag, got 'b\\t'"),
        (data.read_tagged, "\tDET\n", r"line 1: expected word TAB tag, got '\\tDET'"),
        (
            data.read_tagged,
            "a DET\nNew York NOUN\n",
            r"line 2: expected 2 columns as in line 1, got 3: 'New York NOUN'",
        ),
        (data.read_tagged, "a DET\n" + "x" * 99, r"line 2: expected word TAB tag, got 'x{60}'\.\.\."),
        (data.read_tagged, "", r"line 1: expected word TAB tag, got the end of the file, and no sentence before it"),
        (data.read_tagged, "\n-DOCSTART- O\n\n", r"line 4: expected word TAB tag, got the end"),
        (data.read_labelled, "good\tyes\nbad no\n", r"line 2: expected label TAB text, got no tab in 'bad no'"),
        (data.read_labelled, "good\tyes\n\nbad\tno\n", r"line 2: expected label TAB text, got no tab in ''"),
        (data.read_labelled, "good\ta\tb\n", r"line 1: expected label TAB text, got 2 tabs in 'good\\ta\\tb'"),
        (data.read_labelled, "good\tyes\n \tno\n", r"line 2: expected label TAB text, got ' \\tno'"),
        (data.read_labelled, "\n\n", r"line 3: expected label TAB text, got the end of the file, and no row before it"),
        (data.read_pairs, "a\tb\nc\n", r"line 2: expected source TAB target, got no tab in 'c'"),
        (data.read_pairs, "", r"line 1: expected source TAB target, got the end"),
    ],
)
def test_a_malformed_line_is_named_with_what_was_expected_and_what_was_there(file, read, content, message):
    for marked in (content, "\ufeff" + content, content.replace("\n", "\r\n")):
        with pytest.raises(FileFormatError, match="^" + re.escape(f"{write(file, marked)}, ") + message):
            read(file)


@pytest.mark.parametrize(
    "column, content, message",
    [
        ("x", "t,x\n0,1\n1,\n", r"line 3: expected a finite number in column 'x', got an empty cell"),
        ("x", "t,x\n0,1\n1,NA\n", r"line 3: expected a finite number in column 'x', got 'NA'"),
        ("x", "t,x\n0,nan\n", r"line 2: .* got 'nan'"),
        ("x", "t,x\n0,1e999\n", r"line 2: .* got '1e999'"),
        ("x", "t,x\n0,1_000\n", r"line 2: .* got '1_000'"),
        ("x", "t,x\n0,1,5\n", r"line 2: expected 2 cells as in line 1, got 3: '0,1,5'"),
        ("x", "t,x\n0\n", r"line 2: expected 2 cells as in line 1, got 1: '0'"),
        ("x", "t,x\n\n0,1\n", r"line 2: expected 2 cells as in line 1, got an empty line"),
        ("x", "t,x\n", r"line 2: expected a finite number in column 'x', got the end of the file"),
        ("x", 't,x\n0,"1\n', r"line 2: expected cells separated by commas, got unexpected end of data"),
        ("y", "t,x\n0,1\n", r"line 1: expected a column 'y', got the columns 0 \('t'\), 1 \('x'\)"),
        ("2", "t,x\n0,1\n", r"line 1: expected a column '2', got the columns 0 \('t'\), 1 \('x'\)"),
        (2, "3,4\n0,1\n", r"line 1: expected a column 2, got the columns 0, 1"),
        ("x", "3,4\n0,1\n", r"line 1: expected a column 'x', got the columns 0, 1"),
        ("x", "x,x\n0,1\n", r"line 1: expected one column 'x', got several, at the positions 0, 1; give the position"),
        (0, "a,4\n0,1\n", r"line 1: expected a finite number in column 0, got 'a'"),
        (0, "\n\n", r"line 1: expected a row of numbers, got the end of the file"),
    ],
)
def test_a_column_that_cannot_be_read_is_named_with_its_line(file, column, content, message):
    for written in (content, content.replace("\n", "\r\n")):
        with pytest.raises(FileFormatError, match="^" + re.escape(f"{write(file, written)}, ") + message):
            data.read_column(file, column)


def test_a_name_that_is_there_wins_over_what_else_the_first_row_holds(file):
    write(file, "year,1990,x\n1,2,3\n")
    assert data.read_column(file, "x").tolist() == [3]  # although a cell of the header is a number
    write(file, "b,2\n5,6\n")
    assert data.read_column(file, 1).tolist() == [2, 6]  # no header, as one of its cells is a number


@pytest.mark.parametrize("column", [-1, 1.5, True])
def test_a_column_is_a_name_or_a_position_from_0(file, column):
    with pytest.raises(ArgumentError, match="read_column: column must be an integer from 0"):
        data.read_column(write(file, "1,2\n"), column)


@given(before=st.lists(LINE, max_size=3), text=LINE)
def test_a_file_in_another_encoding_is_refused_with_byte_line_and_cure(file, before, text):
    content = "\n".join([*before, text]).encode() + b"caf\xe9 au lait\n"
    pattern = (
        rf"^{re.escape(str(file))}, line {len(before) + 1}: expected UTF-8, got the byte 0xe9 in .*caf\\xe9.*iconv -f"
    )
    for marked in (content, b"\xef\xbb\xbf" + content):
        with pytest.raises(FileFormatError, match=pattern):
            data.read_text(write(file, marked))


@pytest.mark.parametrize("read", READERS)
def test_a_file_that_is_missing_or_a_folder_is_named(read, tmp_path, file):
    with pytest.raises(MissingFileError, match=f"there is no file {re.escape(str(tmp_path / 'none'))}"):
        read(tmp_path / "none")
    with pytest.raises(MissingFileError, match="there is no file"):
        read(write(file, "a\tb\n") / "below")
    with pytest.raises(FileFormatError, match=f"{re.escape(str(tmp_path))}: expected a file, got a folder"):
        read(tmp_path)


def wav(path, samples, rate=8000):
    """Write whole numbers (N, channels) of so many bytes each, by hand: a header, then the bytes in turn."""
    width, numbers = samples
    body = b"".join((n + (128 if width == 1 else 0)).to_bytes(width, "little", signed=width > 1) for n in numbers.flat)
    channels = numbers.shape[1]
    head = struct.pack("<HHIIHH", 1, channels, rate, rate * channels * width, channels * width, 8 * width)
    chunks = b"WAVEfmt " + struct.pack("<I", 16) + head + b"data" + struct.pack("<I", len(body)) + body
    chunks += b"\0" * (len(body) % 2)
    path.write_bytes(b"RIFF" + struct.pack("<I", len(chunks)) + chunks)
    return path


@st.composite
def samples(draw):
    width, channels, length = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(0, 9))
    numbers = st.integers(-(2 ** (8 * width - 1)), 2 ** (8 * width - 1) - 1)
    drawn = draw(st.lists(numbers, min_size=length * channels, max_size=length * channels))
    return width, np.array(drawn, dtype=object).reshape(length, channels)


@given(samples(), st.integers(1, 192_000))
@example((1, np.array([[-128], [127], [0]], object)), 8000)
@example((3, np.array([[-(2**23), 2**23 - 1]], object)), 44100)
def test_sound_of_every_width_is_scaled_to_1_and_its_channels_averaged(file, samples, rate):
    width, numbers = samples
    found_rate, found = data.read_wav(wav(file, samples, rate))
    expected = np.array([sum(map(int, row)) / len(row) / 2 ** (8 * width - 1) for row in numbers], np.float64)
    assert found_rate == rate and found.dtype == np.float32 and found.shape == (len(numbers),)
    assert (np.abs(found - expected) <= 2.0**-24 * np.abs(expected) + 2.0**-53).all()  # rounded once, to float32
    assert (np.abs(found) <= 1).all()


@given(st.lists(st.floats(-1, 1), max_size=30), st.integers(1, 192_000))
@example([1.0, -1.0, 0.0, 1e-300], 8000)
def test_written_sound_is_read_back_to_half_a_quantum(file, samples, rate):
    data.write_wav(file, rate, samples)
    found_rate, found = data.read_wav(file)
    expected = np.minimum(np.array(samples), 1 - 1 / 32768)
    assert found_rate == rate and found.shape == (len(samples),)
    assert (np.abs(found - expected) <= 0.5 / 32768).all()
    data.write_wav(file, rate, found)
    assert (data.read_wav(file)[1] == found).all()  # what lies on the grid of 16 bits is kept exactly


def test_sound_is_written_as_others_read_it_also_from_tensors_and_into_a_new_folder(tmp_path):
    path = tmp_path / "new" / "tone.wav"
    data.write_wav(str(path), 16000, mg.tensor([0.25, -0.5]))
    with wave.open(str(path)) as sound:
        assert sound.getparams()[:4] == (1, 2, 16000, 2)
        assert struct.unpack("<2h", sound.readframes(2)) == (8192, -16384)


@pytest.mark.parametrize(
    "rate, samples, error, message",
    [
        (8000, [0.5, 1.25], ArgumentError, r"in \[-1, 1\], the largest is 1.25; samples / abs\(samples\).max\(\)"),
        (8000, [0.5, -1.25], ArgumentError, "the largest is 1.25"),
        (8000, np.array([-32768], "int16"), ArgumentError, "the largest is 3.277e\\+04"),
        (8000, [np.nan], ArgumentError, "the largest is nan"),
        (8000, [[0.5, 0.5]], ShapeError, r"expected samples \(N,\), got the shape \(1, 2\)"),
        (8000, ["a"], DtypeError, "got the dtype <U1"),
        (0, [0.5], ArgumentError, "rate must be an integer from 1, got 0"),
        (44.1, [0.5], ArgumentError, "rate must be an integer from 1, got 44.1"),
    ],
)
def test_samples_that_are_no_sound_are_refused_and_nothing_is_written(tmp_path, rate, samples, error, message):
    with pytest.raises(error, match=message):
        data.write_wav(tmp_path / "a.wav", rate, samples)
    assert not (tmp_path / "a.wav").exists()


GOOD = (2, np.arange(20, dtype=object).reshape(10, 2))


@given(st.integers(0, 44 + 40 - 1))
def test_a_wav_file_that_was_cut_short_anywhere_is_refused_with_a_cure(file, kept):
    content = wav(file, GOOD).read_bytes()
    assert len(content) == 44 + 40
    with pytest.raises(FileFormatError, match=r"^\S+: expected .*; `ffmpeg -i \S+ -ac 1 -ar 8000 \S+ \S+ out.wav`"):
        data.read_wav(write(file, content[:kept]))


def test_a_wav_file_says_what_is_wrong_with_it(file):
    content = wav(file, GOOD).read_bytes()
    with pytest.raises(FileFormatError, match="expected 40 bytes of samples, got 37, as the file was cut short"):
        data.read_wav(write(file, content[:-3]))
    with pytest.raises(FileFormatError, match="got file does not start with RIFF id"):
        data.read_wav(write(file, b"no sound at all"))
    for format_ in (2, 3, 85):  # compressed, floats, MP3
        with pytest.raises(FileFormatError, match=f"got unknown format: {format_}; `ffmpeg"):
            data.read_wav(write(file, content[:20] + struct.pack("<H", format_) + content[22:]))
    with pytest.raises(FileFormatError, match="expected samples of 8, 16, 24 or 32 bits, got 64 bits at 8000 Hz"):
        data.read_wav(write(file, content[:34] + struct.pack("<H", 64) + content[36:]))


@given(st.binary(max_size=60) | st.builds(lambda at, byte: (at, byte), st.integers(0, 43), st.integers(0, 255)))
def test_no_bytes_whatever_make_read_wav_fail_with_anything_but_its_own_error(file, change):
    content = wav(file, GOOD).read_bytes()
    if isinstance(change, bytes):
        content = change
    else:
        at, byte = change
        content = content[:at] + bytes([byte]) + content[at + 1 :]
    try:
        rate, samples = data.read_wav(write(file, content))
    except FileFormatError:
        return
    assert rate > 0 and samples.ndim == 1 and (np.abs(samples) <= 1).all()


@given(st.binary(max_size=40) | st.text(st.sampled_from("a1.,\t\n\r\"' -"), max_size=20).map(str.encode))
def test_no_bytes_whatever_make_a_reader_fail_with_anything_but_its_own_error(file, content):
    write(file, content)
    for read in READERS:
        try:
            found = read(file)
        except FileFormatError as error:
            assert str(error).startswith(str(file))
        else:
            assert len(found) > 0 or read is data.read_text


@pytest.mark.parametrize("text, line", [("1\tthe\tthe\tDET\t_\t_\t2\tdet\t_\t_\n", 1), ("# text = the cat\n", 1)])
def test_the_columns_of_conll_u_are_named_with_the_way_out(tmp_path, text, line):
    (tmp_path / "tags").write_text(text)
    with pytest.raises(FileFormatError, match=rf"line {line}: .* got CoNLL-U; .*cut -f 2,4"):
        data.read_tagged(tmp_path / "tags")
