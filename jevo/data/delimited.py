"""Delimited text (.csv): which dialect it is, and its columns; whatever does not fit is named by line and column.

pyarrow reads it. Where that finds a fault, or a number it does not know, Python's csv module reads it once more,
slowly: it knows the lines, and its word counts.
"""

import codecs
import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np

from jevo.data.labels import Labels, number
from jevo.errors import InputError

_DELIMITERS = ",;\t|"
_SAMPLE = 1 << 20
"""Bytes from which the dialect is told."""
_RECORDS = 100
_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?", re.ASCII)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+", re.ASCII)
_EMPTY = ("", "na", "n/a", "nan", "null", "none", "?", "-")
_MAGIC = {b"PK": "an Excel or zip file", b"\x1f\x8b": "a gzip file", b"PAR1": "a .parquet file", b"%PDF": "a PDF"}
_BOMS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF8: "utf-8-sig",
         codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # fmt: skip
_CAUSES = (
    (re.compile(r".*%"), "a percent sign"),
    (re.compile(r"[+-]?0[xX][0-9a-fA-F]+"), "a hexadecimal number"),
    (re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].*)?"), "a date"),
    (re.compile(r"\d{1,2}:\d{2}.*"), "a time"),
    (re.compile(r"[+-]?\d{1,3}([ ,.'_]\d{3})+([.,]\d+)?"), "thousands separators"),
    (_COMMA, "a decimal comma"),
    (re.compile(r"[$€£¥]\s*[\d.,]+|[\d.,]+\s*[$€£¥]"), "a currency sign"),
    (re.compile(r"#.*"), "a comment"),
)
NO_LABELS = Labels((), np.zeros(0, int))
"""Of a table whose columns are all read as numbers."""


def open_text(path: Path, header: bool) -> "Delimited":
    """Reads the file, and tells its encoding, delimiter, header and decimal sign.

    Raises `InputError` if it is empty, no text, in an encoding that cannot be told, or not one table.
    """
    raw, said = _utf8(path, path.read_bytes())
    sample = raw if len(raw) <= _SAMPLE else raw[: max(raw.rfind(b"\n", 0, _SAMPLE), raw.rfind(b"\r", 0, _SAMPLE)) + 1]
    if not sample:  # one line of more than that
        sample = raw
    lines = list(io.StringIO(sample.decode(), newline=""))
    comments, skipped, delimiter = 0, 0, ""
    while skipped < len(lines) and (not lines[skipped].strip() or lines[skipped].lstrip().startswith("#")):
        comments += bool(lines[skipped].strip())
        skipped += 1
    if skipped < len(lines) and (told := re.fullmatch(r"\"?sep=(.)\"?\s*", lines[skipped])):
        delimiter, skipped = told[1], skipped + 1
    if skipped == len(lines):
        raise InputError(f"{path}: is empty: line 1 must name the columns, and the rows follow below")
    if comments:
        said.append(f"{comments} comment line{'s' if comments > 1 else ''} at the top skipped")
    text = "".join(lines[skipped:])
    delimiter = delimiter or _delimiter(path, text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        first = next(reader)
    except csv.Error as error:
        raise InputError(f"{path}: line {skipped + 1} cannot be read: {error}") from None
    used = skipped + reader.line_num if header else skipped
    names = tuple(" ".join(name.split()) for name in first) if header else tuple(map(str, range(len(first))))
    records = _records(text, delimiter)
    body = records[1:] if header else records
    if header and not body:
        raise InputError(f"{path}: has no rows below its header, {'; '.join(names)[:60]!r}")
    decimal = _decimal(path, delimiter, body)
    if decimal == ",":
        said.append("numbers have decimal commas")
    start = len("".join(lines[:used]).encode())
    return Delimited(path, raw, names, said, delimiter, decimal, start, used, tuple(first), body, header)


@dataclass(frozen=True)
class Delimited:
    """A file of delimited text.

    Attributes:
        path: of it.
        raw: its bytes, in UTF-8.
        names: of the columns.
        said: what was noticed.
        delimiter, decimal: its signs.
        start: where in `raw` the rows begin.
        above: how many lines are before them.
        first: the cells of the first line that is no comment.
        sample: the cells of the first rows.
        header: whether `first` names the columns.
    """

    path: Path
    raw: bytes
    names: tuple[str, ...]
    said: list[str]
    delimiter: str
    decimal: str
    start: int
    above: int
    first: tuple[str, ...]
    sample: list[list[str]]
    header: bool
    _lines: dict[int, int] = field(default_factory=dict)

    def empty(self, column: int) -> bool:
        """Whether a column has only empty cells, as far as the first rows tell."""
        return all(len(cells) <= column or not cells[column].strip() for cells in self.sample)

    def headerless(self, columns: Sequence[int], target: int) -> str:
        """What is wrong with `header`, by the look of the first line beside the columns below; "" if nothing is."""
        rows = [cells for cells in (self.sample if self.header else self.sample[1:]) if len(cells) == len(self.names)]
        if not rows:
            return self._numbers_only() if self.header and len(self.sample) == 0 else ""
        plain = [i for i in columns if all(self._number(c[i]) or c[i].strip().lower() in _EMPTY for c in rows)]
        plain = [i for i in plain if any(self._number(c[i]) for c in rows)]
        numbers = [i for i in plain if self._number(self.first[i])]
        if not self.header:
            words = [i for i in plain if not self._number(self.first[i]) and self.first[i].lower() not in _EMPTY]
            if words and not numbers:
                cell = self.first[words[0]]
                return f"line {self.above + 1} looks like a header ({cell[:40]!r} above numbers): do without no-header"
            return ""
        blank = [i for i in plain if self.first[i].strip().lower() in _EMPTY]
        if not numbers or len(numbers) + len(blank) < len(plain):
            return ""
        values = [number(self.first[i]) for i in numbers]
        steps = set(np.diff(values))
        known = {cells[target].strip() for cells in rows}
        if len(values) > 1 and len(steps) == 1 and steps <= {1.0} and self.first[target].strip() not in known:
            return "" if np.isnan(number(self.first[target])) else self._numbers_only()
        return self._numbers_only()

    def _numbers_only(self) -> str:
        held = self.delimiter.join(self.first)[:60]
        return (
            f"line {self.above} must name the columns, but holds {held!r}, numbers as in the rows below; "
            "add a header line, or set no-header"
        )

    def read(self, columns: Sequence[int], target: int | None, blank: int | None = None) -> tuple[np.ndarray, Labels]:
        """The numbers of some columns, float64 `[n, columns]`, and the labels of the column `target`, if there is one.

        Raises `InputError` for a row of another length, a number that is no finite float32 one, or a cell in the
        column `blank` that is not empty.
        """
        self._check_quotes()
        fast = self._fast(columns, target, blank)
        return self._slow(columns, target, blank) if fast is None else fast

    def line(self, row: int) -> int:
        """The line on which a row begins."""
        if not self._lines:
            self._lines.update(enumerate(line for line, _ in self._rows()))
        return self._lines[row]

    def _number(self, cell: str) -> bool:
        return not np.isnan(number(self._point(cell)))

    def _point(self, cell: str) -> str:
        """A cell with a decimal point, or one that is no number."""
        if self.decimal == ".":
            return cell
        return cell.replace(",", ".") if "." not in cell else "a point among decimal commas"

    def _check_quotes(self) -> None:
        if self.raw.count(b'"') % 2 == 0:
            return
        lines = io.StringIO(self.raw[self.start :].decode(), newline="")
        odd = next((i for i, line in enumerate(lines, start=1) if line.count('"') % 2), 1 - self.above)
        raise InputError(f'{self.path}: line {self.above + odd} has a " that is never closed, or that stands alone')

    def _fast(self, columns: Sequence[int], target: int | None, blank: int | None) -> tuple[np.ndarray, Labels] | None:
        """What pyarrow reads; None where it stumbles."""
        import pyarrow as pa
        from pyarrow import csv as arrow

        keys = [str(i) for i in range(len(self.names))]
        wanted = [keys[i] for i in columns]
        texts = [keys[i] for i in (target, blank) if i is not None]
        rows = memoryview(self.raw)[self.start :]
        size = max(1 << 22, 8 * (self.raw.find(b"\n", self.start) - self.start))  # rows must fit
        try:
            table = arrow.read_csv(
                pa.BufferReader(pa.py_buffer(rows)),
                read_options=arrow.ReadOptions(column_names=keys, block_size=min(size, 1 << 30)),
                parse_options=arrow.ParseOptions(delimiter=self.delimiter, newlines_in_values=b'"' in self.raw),
                convert_options=arrow.ConvertOptions(
                    include_columns=[*wanted, *texts],
                    column_types={**dict.fromkeys(wanted, pa.float64()), **dict.fromkeys(texts, pa.string())},
                    decimal_point=self.decimal,
                ),
            )
        except pa.ArrowException:
            return None
        if not table.num_rows or any(table.column(key).null_count for key in wanted):
            return None
        if blank is not None and any(cell.strip() for cell in table.column(keys[blank]).unique().to_pylist()):
            return None
        labels = NO_LABELS
        if target is not None:
            encoded = table.column(keys[target]).combine_chunks().dictionary_encode()
            labels = Labels(self._pointed(encoded.dictionary.to_pylist()), encoded.indices.to_numpy())
        if any("\n" in value or "\r" in value for value in labels.values):
            return None
        x = np.empty((table.num_rows, len(wanted)))
        for start in range(0, len(x), 4096):  # a few rows of all columns at a time fit the cache
            part = table.slice(start, 4096)
            for j, key in enumerate(wanted):
                x[start : start + 4096, j] = part.column(key).to_numpy()
            if not (np.abs(x[start : start + 4096]) <= np.finfo(np.float32).max).all():
                return None
        return x, labels

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """The line on which each row begins, and its cells."""
        text = io.TextIOWrapper(io.BytesIO(memoryview(self.raw)[self.start :]), "utf-8", newline="")
        reader, line = csv.reader(text, delimiter=self.delimiter), self.above + 1
        try:
            for cells in reader:
                if cells:
                    yield line, cells
                line = self.above + reader.line_num + 1
        except csv.Error as error:
            raise InputError(f"{self.path}: line {line} cannot be read: {error}; is a quote not closed?") from None

    def _slow(self, columns: Sequence[int], target: int | None, blank: int | None) -> tuple[np.ndarray, Labels]:
        rows, labels = [], []
        for line, cells in self._rows():
            if len(cells) != len(self.names):
                self._ragged(line, cells)
            if blank is not None and cells[blank].strip():
                raise InputError(f"{self.path}: line {line}: {cells[blank][:60]!r} is in a column without a name")
            row = np.array([number(self._point(cells[i])) for i in columns])
            fine = np.abs(row) <= np.finfo(np.float32).max
            if not fine.all():
                i = columns[int(np.argmin(fine))]
                self._no_number(line, self.names[i], cells[i])
            rows.append(row)
            if target is None:
                continue
            if "\n" in cells[target] or "\r" in cells[target]:
                raise InputError(f"{self.path}: line {line}: the label has a line break; is a quote not closed?")
            labels.append(cells[target])
        if not rows:
            raise InputError(f"{self.path}: has no rows below its header")
        if target is None:
            return np.stack(rows), NO_LABELS
        values, codes = np.unique(labels, return_inverse=True)
        return np.stack(rows), Labels(self._pointed(values.tolist()), codes)

    def _pointed(self, values: list[str]) -> list[str]:
        """Labels as they are; numbers, if all of them are, with a point."""
        if self.decimal == ".":
            return values
        pointed = [self._point(value) for value in values]
        return pointed if all(not math.isnan(number(value)) for value in pointed) else values

    def _ragged(self, line: int, cells: list[str]) -> NoReturn:
        cause = ""
        if len(cells) > len(self.names) and not any(cell.strip() for cell in cells[len(self.names) :]):
            cause = f"; is there a {self.delimiter!r} too many at its end?"
        elif len(cells) == len(self.names) - 1 and not self.names[-1]:
            cause = f"; is there a {self.delimiter!r} too many at the end of the header?"
        elif cells[0].lstrip().startswith("#"):
            cause = "; comments are read at the top only"
        elif any("\n" in cell for cell in cells):
            cause = "; is a quote not closed?"
        elif len(cells) > len(self.names) and self.delimiter == ",":
            cause = "; is there a decimal comma, or a comma in a name without quotes?"
        of = "the header" if self.header else "the first row"
        count = f"{len(cells)} cell{'s' if len(cells) != 1 else ''}"
        raise InputError(f"{self.path}: line {line} has {count}, {of} {len(self.names)}{cause}")

    def _no_number(self, line: int, name: str, cell: str) -> NoReturn:
        causes = (what for pattern, what in _CAUSES if pattern.fullmatch(cell.strip()))
        cause = next(causes, "")
        hint = f" (it has {cause})" if cause and self.decimal == "." else ""
        shown = cell if len(cell) <= 60 else cell[:60] + "..."
        raise InputError(
            f"{self.path}: column {name!r}, line {line}: {shown!r} is no finite number{hint}; "
            "features and targets must be numbers"
        )


def _utf8(path: Path, raw: bytes) -> tuple[bytes, list[str]]:
    """The text in UTF-8, and what was noticed."""
    for magic, what in _MAGIC.items():
        if raw.startswith(magic):
            raise InputError(f"{path}: is {what}, whatever its name says; save it as .csv")
    bom = next((encoding for mark, encoding in _BOMS.items() if raw.startswith(mark)), "utf-8")
    try:
        if bom in ("utf-16", "utf-32"):
            raw, said = raw.decode(bom).encode(), [f"the file is in {bom.upper()}"]
        else:
            raw, said = raw.removeprefix(codecs.BOM_UTF8), []
            raw.decode()
    except UnicodeDecodeError as error:
        if bom != "utf-8":
            raise InputError(f"{path}: cannot be read as {bom}, as its first bytes say it is: it is damaged") from None
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}: cannot be read: line {line} is not UTF-8 (byte {error.start}, 0x{raw[error.start]:02x}); it "
            f"looks like Latin-1 or Windows-1252: save it as UTF-8 (iconv -f WINDOWS-1252 -t UTF-8)"
        ) from None
    if b"\0" in raw:
        line = raw.count(b"\n", 0, raw.index(b"\0")) + 1
        raise InputError(f"{path}: line {line} has a NUL byte: is it no text, damaged, or UTF-16 without its mark?")
    return raw, said


def _records(text: str, delimiter: str) -> list[list[str]]:
    """The first records that are not empty."""
    found = []
    try:
        for cells in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            if cells:
                found.append(cells)
            if len(found) == _RECORDS:
                break
    except csv.Error:  # a cell without end; whoever reads it all says so
        pass
    return found


def _delimiter(path: Path, text: str) -> str:
    """The sign that divides the first records into equally many cells, as their header."""
    shapes: dict[str, tuple[int, Counter[int]]] = {}
    for sign in _DELIMITERS:
        counts = [len(cells) for cells in _records(text, sign)]
        if counts:
            shapes[sign] = counts[0], Counter(counts[1:])
    fits = {
        sign: (body[width] / max(1, body.total()) if body else 1.0, width)
        for sign, (width, body) in shapes.items()
        if width > 1
    }
    best = max(fits, key=lambda sign: fits[sign], default="")
    usual = {sign: body.most_common(1)[0] for sign, (_, body) in shapes.items() if body}
    rows = [sign for sign, (width, n) in usual.items() if width > 1 and n > shapes[sign][1].total() / 2]
    if best and fits[best][0] <= 0.5:  # the rows do not look like the header
        other = next((sign for sign in rows if sign != best), "")
        if other and best not in rows:
            raise InputError(
                f"{path}: the header is divided by {best!r}, the rows below by {other!r}; use one sign for both"
            )
    if not best:
        if rows:
            raise InputError(
                f"{path}: the rows are divided by {rows[0]!r}, but line 1 is not; it must name the columns"
            )
        line = next(iter(text.splitlines()), "")
        spaces = "; are its columns divided by spaces? Use commas" if len(line.split()) > 1 else ""
        if spaces:
            raise InputError(f"{path}: line 1 ({line[:60]!r}) has one column only{spaces}")
        return ","
    ties = [sign for sign in fits if sign != best and fits[sign] == fits[best]]
    if ties:
        raise InputError(f"{path}: can be divided by {best!r} as well as by {ties[0]!r}; use one sign only")
    return best


def _refuse_thousands(path: Path, body: list[list[str]]) -> None:
    """Raise an InputError for a column of 950 and 1.250: who writes decimals leaves zeros at their end out, or writes
    them in whole numbers, too."""
    for column in zip(*body, strict=False):
        cells = {cell.strip() for cell in column}
        pointed = [cell for cell in cells if "." in cell]
        thousands = pointed and all(_THOUSANDS.fullmatch(cell.replace(".", ",")) for cell in pointed)
        if thousands and any(re.fullmatch(r"[+-]?\d+", cell, re.ASCII) for cell in cells):
            raise InputError(
                f"{path}: {min(pointed)!r} may have a thousands separator, as other numbers of its column have no "
                "point; write thousands without one, and decimals in as many places all"
            )


def _decimal(path: Path, delimiter: str, body: list[list[str]]) -> str:
    """The decimal sign of numbers that hold commas, which only files with another delimiter can have."""
    if delimiter == ",":
        quoted = [cell.strip() for cells in body for cell in cells if _COMMA.fullmatch(cell.strip())]
        if not quoted:
            return "."
    else:
        _refuse_thousands(path, body)
    cells = [cell.strip() for row in body for cell in row]
    commas = [cell for cell in cells if _COMMA.fullmatch(cell)]
    if not commas:
        return "."
    if any(re.fullmatch(r"[+-]?\d+\.\d+", cell) for cell in cells):
        return "."  # both signs: the one that is out of place is named where it stands
    if all(_THOUSANDS.fullmatch(cell) for cell in commas):
        raise InputError(
            f"{path}: {commas[0]!r} may have a decimal comma or a thousands separator; write numbers with a point"
        )
    return ","
