"""Files of text, numbers and sound, read in one pass; what is wrong with one is named by file and line."""

from __future__ import annotations

import codecs
import csv
import io
import math
import os
import re
import wave
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

import numpy as np

from .. import backends
from ..errors import ArgumentError, DtypeError, FileFormatError, MissingFileError, ShapeError

Path = str | os.PathLike[str]


class Tagged(NamedTuple):
    """A sentence whose words have tags, and the line where it begins in its file."""

    line: int
    words: list[str]
    tags: list[str]


class Labelled(NamedTuple):
    """A text with a label, and its line in its file."""

    line: int
    label: str
    text: str


class Pair(NamedTuple):
    """A text and what is to become of it, such as its translation, and their line in their file."""

    line: int
    source: str
    target: str


def read_text(path: Path) -> str:
    r"""The text of a file in UTF-8, without a byte order mark; lines end in "\n", also where "\r\n" stood.

    Raises MissingFileError, or FileFormatError for a folder or a file that is not in UTF-8, with the line.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "text")
    >>> _ = path.write_bytes(b"two\r\nlines\n")
    >>> read_text(path)
    'two\nlines\n'
    """
    content = _bytes(path).removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        around = content[max(content.rfind(b"\n", 0, error.start) + 1, error.start - 10) : error.start + 10]
        _wrong(
            path,
            line,
            "UTF-8",
            f"the byte 0x{content[error.start]:02x} in {around!r}; "
            f"`iconv -f ENCODING -t UTF-8 {os.fspath(path)} > NEW_FILE` converts it",
        )


def read_tagged(path: Path) -> list[Tagged]:
    r"""The sentences of a file with a word and its tag on each line, and an empty line after each sentence.

    The columns are separated by a tab, or else by blanks. There may be more than two, as in the files of CoNLL-2003
    with their four: the first is the word, the last the tag, and the others are not read. Lines of "-DOCSTART-" are
    skipped. Raises MissingFileError, or FileFormatError for a line without a tag, for one with more or fewer columns
    than the first, and for a file without a sentence.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "tags.tsv")
    >>> _ = path.write_text("the\tDET\ncat\tNOUN\n\nstop\tVERB\n")
    >>> for line, words, tags in read_tagged(path):
    ...     print(line, words, tags)
    1 ['the', 'cat'] ['DET', 'NOUN']
    4 ['stop'] ['VERB']
    """
    wanted = "word TAB tag"
    found: list[Tagged] = []
    lines = read_text(path).split("\n")
    sentence, first, width = None, 0, 0  # the one that goes on; the line and the columns of the first word
    for number, line in enumerate(lines, 1):
        columns = [part.strip(" ") for part in line.split("\t")] if "\t" in line else re.split(" +", line.strip(" "))
        if not any(columns) or columns[0] == "-DOCSTART-":
            sentence = None
            continue
        if (len(columns) == 10 and columns[0].isdigit()) or re.match("# .*=", line):
            _wrong(path, number, wanted, f"CoNLL-U; `grep -v '^#' {path} | cut -f 2,4 > NEW_FILE` converts it")
        if len(columns) < 2 or not columns[0] or not columns[-1]:
            _wrong(path, number, wanted, _short(line))
        if not width:
            first, width = number, len(columns)
        if len(columns) != width:
            _wrong(path, number, f"{width} columns as in line {first}", f"{len(columns)}: {_short(line)}")
        if sentence is None:
            sentence = Tagged(number, [], [])
            found.append(sentence)
        sentence.words.append(columns[0])
        sentence.tags.append(columns[-1])
    if not found:
        _wrong(path, len(lines), wanted, "the end of the file, and no sentence before it")
    return found


def read_labelled(path: Path) -> list[Labelled]:
    r"""The rows of a file with a label, a tab and a text on each line. A text may be empty, a label may not.

    Empty lines at the end are left out. Raises MissingFileError, or FileFormatError for a line with no tab or several,
    for one without a label, and for a file without a row.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "labels.tsv")
    >>> _ = path.write_text("good\tI liked it.\nbad\t\n")
    >>> read_labelled(path)
    [Labelled(line=1, label='good', text='I liked it.'), Labelled(line=2, label='bad', text='')]
    """
    wanted = "label TAB text"
    rows = []
    for number, label, text in _two_columns(path, wanted):
        if not label.strip():
            _wrong(path, number, wanted, _short(f"{label}\t{text}"))
        rows.append(Labelled(number, label.strip(), text))
    return rows


def read_pairs(path: Path, columns: str = "source TAB target") -> list[Pair]:
    r"""The rows of a file with a source, a tab and a target on each line; both may be empty.

    columns: what errors call the two.
    Empty lines at the end are left out. Raises MissingFileError, or FileFormatError for a line with no tab or several,
    and for a file without a row.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "pairs.tsv")
    >>> _ = path.write_text("3 May 2021\t2021-05-03\n")
    >>> read_pairs(path)
    [Pair(line=1, source='3 May 2021', target='2021-05-03')]
    """
    return [Pair(*row) for row in _two_columns(path, columns)]


def _two_columns(path: Path, wanted: str) -> Iterator[tuple[int, str, str]]:
    """Line, first and second column of each row."""
    lines = read_text(path).split("\n")
    end = len(lines)
    while lines and not lines[-1].strip(" "):
        lines.pop()
    if not lines:
        _wrong(path, end, wanted, "the end of the file, and no row before it")
    for number, line in enumerate(lines, 1):
        columns = line.split("\t")
        if len(columns) != 2:
            tabs = {1: "no tab"}.get(len(columns), f"{len(columns) - 1} tabs")
            _wrong(path, number, wanted, f"{tabs} in {_short(line)}")
        yield number, columns[0], columns[1]


def read_column(path: Path, column: str | int) -> np.ndarray:
    r"""The numbers in one column of a CSV file, whose cells are separated by commas: float64 (T,).

    column: a name that the first row has, or a position, counted from 0; a position may be a text, such as "2". The
        first row is taken for a header if none of its cells is a number, or if the name is in it.

    Empty lines at the end are left out. Raises MissingFileError, or FileFormatError for a column that is not there,
    with those that are, for a cell that is missing or no finite number, and for a row with more or fewer cells than
    the first.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "weather.csv")
    >>> _ = path.write_text("day,degrees\nMonday,21.5\nTuesday,19\n")
    >>> read_column(path, "degrees")
    array([21.5, 19. ])
    """
    rows = _rows(path)
    if not rows:
        _wrong(path, 1, "a row of numbers", "the end of the file")
    names = [name.strip() for name in rows[0][1]]
    position = _position(column)
    header = all(_number(name) is None for name in names) or (position is None and column in names)
    if header and names.count(str(column)) > 1 and not isinstance(column, int):
        where = ", ".join(str(i) for i, name in enumerate(names) if name == column)
        _wrong(path, rows[0][0], f"one column {column!r}", f"several, at the positions {where}; give the position")
    if header and not isinstance(column, int) and column in names:
        position = names.index(column)
    if position is None or position >= len(names):
        there = ", ".join(f"{i} ({name!r})" if header else str(i) for i, name in enumerate(names))
        _wrong(path, rows[0][0], f"a column {column!r}", f"the columns {there}")
    called = f"column {names[position]!r}" if header else f"column {position}"
    values = []
    for line, cells in rows[header:]:
        if len(cells) != len(names):
            got = f"{len(cells)}: {_short(','.join(cells))}" if cells else "an empty line"
            _wrong(path, line, f"{len(names)} cells as in line {rows[0][0]}", got)
        value = _number(cells[position])
        if value is None:
            got = _short(cells[position]) if cells[position].strip() else "an empty cell"
            _wrong(path, line, f"a finite number in {called}", got)
        values.append(value)
    if not values:
        _wrong(path, rows[0][0] + 1, f"a finite number in {called}", "the end of the file")
    return np.array(values, np.float64)


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """The rows of a CSV file, each with the line where it begins; a cell in quotes may have several lines."""
    reader = csv.reader(io.StringIO(read_text(path), newline="\n"), strict=True)
    rows, line = [], 1
    try:
        for cells in reader:
            rows.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        _wrong(path, line, "cells separated by commas", str(error))
    while rows and not "".join(rows[-1][1]).strip() and len(rows[-1][1]) < 2:
        rows.pop()
    return rows


def _position(column: str | int) -> int | None:
    """The position that a column is given by, or None if it is given by its name."""
    if isinstance(column, str):
        return int(column) if column.isdecimal() else None
    return backends.as_count("read_column", "column", column, least=0)


def _number(cell: str) -> float | None:
    """The number in a cell, or None; what Python reads as a number beyond what files write is none."""
    try:
        value = math.nan if "_" in cell else float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def read_wav(path: Path) -> tuple[int, np.ndarray]:
    """The sample rate in Hz and the samples, float32 (N,) in [-1, 1], of a WAV file; channels are averaged.

    The file holds whole numbers (PCM) of 8, 16, 24 or 32 bits; the lowest one is -1. Raises MissingFileError, or
    FileFormatError for what is no WAV file, is compressed or holds floats, or ends too early.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "sound.wav")
    >>> write_wav(path, 8000, [0.0, 0.5, -1.0])
    >>> read_wav(path)
    (8000, array([ 0. ,  0.5, -1. ], dtype=float32))
    """
    name = os.fspath(path)
    way_out = f"`ffmpeg -i {name} -ac 1 -ar 8000 -c:a pcm_s16le out.wav` may convert it"
    try:
        with wave.open(io.BytesIO(_bytes(path))) as file:
            channels, width, rate, frames, *_ = file.getparams()
            content = np.frombuffer(file.readframes(frames), np.uint8)
    except (wave.Error, EOFError, RuntimeError) as error:
        reason = str(error) or "one that ends in its header"
        raise FileFormatError(f"{name}: expected a WAV file of PCM samples, got {reason}; {way_out}") from error
    if width not in (1, 2, 3, 4) or rate < 1:
        raise FileFormatError(
            f"{name}: expected samples of 8, 16, 24 or 32 bits, got {8 * width} bits at {rate} Hz; {way_out}"
        )
    if content.size != frames * channels * width:
        raise FileFormatError(
            f"{name}: expected {frames * channels * width} bytes of samples, got {content.size}, as the file was cut "
            f"short; {way_out}"
        )
    if width == 1:
        content = content ^ np.uint8(0x80)  # 8 bits have no sign: 128 is silence
    wide = np.zeros((content.size // width, 4), np.uint8)  # little-endian: the highest bytes come last
    wide[:, 4 - width :] = content.reshape(-1, width)
    scaled = wide.view("<i4").reshape(-1, channels) / 2.0**31
    return rate, scaled.mean(axis=1).astype(np.float32)


def write_wav(path: Path, rate: int, samples: Any) -> None:
    """Write samples (N,) in [-1, 1] as a WAV file of one channel and 16 bits, at `rate` samples a second.

    `read_wav` gives them back to within half a quantum of 1/32768, and 1 itself as the highest number there is,
    1 - 1/32768. A folder that is not there is made. Raises ShapeError for samples of another shape, and ArgumentError
    for those that are louder than 1 or NaN.

    >>> import tempfile, pathlib
    >>> t = np.arange(800) / 8000
    >>> write_wav(pathlib.Path(tempfile.mkdtemp(), "a.wav"), 8000, 0.5 * np.sin(2 * np.pi * 440 * t))
    """
    rate = backends.as_count("write_wav", "rate", rate)
    array = np.asarray(samples)
    if array.ndim != 1:
        raise ShapeError(f"write_wav: expected samples (N,), got the shape {array.shape}")
    if array.dtype.kind not in "iuf":
        raise DtypeError(f"write_wav: expected samples in [-1, 1], got the dtype {array.dtype}")
    loudest = np.abs(array.astype(np.float64)).max(initial=0)
    if not loudest <= 1:
        raise ArgumentError(
            f"write_wav: samples must be in [-1, 1], the largest is {loudest:.4g}; "
            "samples / abs(samples).max() fits them in"
        )
    whole = np.clip(np.round(array.astype(np.float64) * 32768), -32768, 32767).astype("<i2")
    os.makedirs(os.path.dirname(os.path.realpath(path)), exist_ok=True)
    with wave.open(os.fspath(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(whole.tobytes())


def _bytes(path: Path) -> bytes:
    """All of a file, or the error that says why not."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFileError(f"there is no file {os.fspath(path)}") from None
    except IsADirectoryError:
        raise FileFormatError(f"{os.fspath(path)}: expected a file, got a folder") from None
    except OSError as error:
        raise FileFormatError(f"{os.fspath(path)}: expected a file that can be read, got {error.strerror}") from error


def _short(text: str, longest: int = 60) -> str:
    """The repr of a text, cut where it is long."""
    return repr(text) if len(text) <= longest else f"{text[:longest]!r}..."


def _wrong(path: Path, line: int, expected: str, got: str) -> NoReturn:
    raise FileFormatError(f"{os.fspath(path)}, line {line}: expected {expected}, got {got}")
