// Package records reads the records of data sets as JSON objects, from parquet files and from JSON lines.
package records

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	parquetfile "github.com/parquet-go/parquet-go/format"
)

// ErrFormat means that a file does not hold records.
var ErrFormat = errors.New("not a file of records")

// ErrStop ends the reading of records without an error.
var ErrStop = errors.New("no more records are needed")

// Bounds of a parquet file. The size of a page in memory does not follow from its size on disk, so all page headers are checked
// before a page is read.
const (
	maxParquetFile   = 4 << 30
	maxParquetFooter = 16 << 20
	maxParquetPage   = 64 << 20
	maxParquetTotal  = 4 << 30 // of all pages of a group of rows, unpacked
	maxParquetValues = 1 << 24 // in a page
	maxPageHeader    = 1 << 16
	parquetBatch     = 64 // rows at a time
)

// Magic is what parquet files begin and end with.
const Magic = "PAR1"

// Bounds are those of the records of a file.
type Bounds struct {
	Rows int64 // of the file
	Row  int   // bytes of a record
}

// Parquet calls each with every row of a parquet file of size bytes, counted from 1, as a JSON object whose fields have the names of
// the columns. An error of each ends the reading; ErrStop does so without an error.
//
// The library panics on some malformed files, which is an error of the file.
func Parquet(r io.ReaderAt, size int64, b Bounds, each func(row int, object []byte) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("parquet: %w: %v", ErrFormat, p)
		}
	}()
	meta, err := checkParquet(r, size, b)
	if err != nil {
		return err
	}
	file, err := parquet.OpenFile(r, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return fmt.Errorf("parquet: %w: %w", ErrFormat, err)
	}
	columns, err := leaves(file.Root())
	if err != nil {
		return err
	}
	row := 0
	for i, group := range file.RowGroups() {
		if err = checkGroup(r, size, meta, i); err == nil {
			err = readGroup(group, columns, b, &row, each)
		}
		if errors.Is(err, ErrStop) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func readGroup(group parquet.RowGroup, columns []leaf, b Bounds, row *int, each func(int, []byte) error) (err error) {
	rows := group.Rows()
	defer func() { err = errors.Join(err, rows.Close()) }()
	buffer := make([]parquet.Row, parquetBatch)
	for {
		n, err := rows.ReadRows(buffer)
		for _, values := range buffer[:n] {
			*row++
			line, err := object(values, columns, b.Row)
			if err == nil {
				err = each(*row, line)
			}
			if err != nil {
				return fmt.Errorf("row %d: %w", *row, err)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("parquet: after row %d: %w: %w", *row, ErrFormat, err)
		}
		if n == 0 {
			return fmt.Errorf("parquet: after row %d: %w: no rows and no end", *row, ErrFormat)
		}
	}
}

// leaf is a column that holds values.
type leaf struct {
	path []string // names of fields, without those of lists
	list bool
}

// leaves returns the columns that hold values, in the order of their indices.
func leaves(root *parquet.Column) ([]leaf, error) {
	var out []leaf
	var walk func(c *parquet.Column, path []string, list bool) error
	walk = func(c *parquet.Column, path []string, list bool) error {
		if c.Repeated() {
			if list {
				return fmt.Errorf("parquet: %w: column %s is a list of lists", ErrFormat, strings.Join(path, "."))
			}
			list = true
		}
		children := c.Columns()
		switch {
		case c.Leaf():
			out = append(out, leaf{path, list})
			return nil
		case len(children) == 1 && (children[0].Repeated() || c.Repeated()):
			return walk(children[0], path, list) // levels of a list, such as list and element
		}
		for _, child := range children {
			if err := walk(child, append(path[:len(path):len(path)], child.Name()), list); err != nil {
				return err
			}
		}
		return nil
	}
	for _, c := range root.Columns() {
		if err := walk(c, []string{c.Name()}, false); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// object returns a row as JSON.
func object(row parquet.Row, columns []leaf, most int) ([]byte, error) {
	out := make(map[string]any)
	size := 0
	for _, v := range row {
		at := v.Column()
		if at < 0 || at >= len(columns) {
			return nil, fmt.Errorf("parquet: %w: a value of column %d of %d", ErrFormat, at, len(columns))
		}
		c := columns[at]
		if v.IsNull() {
			continue
		}
		value, err := scalar(v)
		if err != nil {
			return nil, fmt.Errorf("parquet: column %s: %w", strings.Join(c.path, "."), err)
		}
		if text, ok := value.(string); ok {
			size += len(text)
		}
		if size += 16; size > most {
			return nil, fmt.Errorf("parquet: %w: more than %d bytes", ErrFormat, most)
		}
		put(out, c, value)
	}
	return json.Marshal(out)
}

// put sets a value, or appends it to a list.
func put(to map[string]any, c leaf, value any) {
	for _, name := range c.path[:len(c.path)-1] {
		inner, ok := to[name].(map[string]any)
		if !ok {
			inner = make(map[string]any)
			to[name] = inner
		}
		to = inner
	}
	name := c.path[len(c.path)-1]
	if c.list {
		list, _ := to[name].([]any)
		list = append(list, value)
		value = list
	}
	to[name] = value
}

func scalar(v parquet.Value) (any, error) {
	switch v.Kind() {
	case parquet.Boolean:
		return v.Boolean(), nil
	case parquet.Int32:
		return v.Int32(), nil
	case parquet.Int64:
		return v.Int64(), nil
	case parquet.ByteArray, parquet.FixedLenByteArray:
		return string(v.ByteArray()), nil
	case parquet.Float, parquet.Double:
		f := v.Double()
		if v.Kind() == parquet.Float {
			f = float64(v.Float())
		}
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, nil // JSON has no such number
		}
		return f, nil
	default: // nothing for the others
	}
	return nil, fmt.Errorf("%w: values of type %s", ErrFormat, v.Kind())
}

// checkParquet compares the sizes of a file and its footer with their bounds, and returns the footer.
func checkParquet(r io.ReaderAt, size int64, b Bounds) (*parquetfile.FileMetaData, error) {
	bad := func(what string, args ...any) error {
		return fmt.Errorf("parquet: %w: "+what, append([]any{ErrFormat}, args...)...)
	}
	if size > maxParquetFile {
		return nil, bad("%d bytes, more than %d", size, int64(maxParquetFile))
	}
	var end [8]byte
	if size < 2*int64(len(end)) {
		return nil, bad("%d bytes", size)
	}
	if _, err := r.ReadAt(end[:], size-int64(len(end))); err != nil {
		return nil, err
	}
	n := int64(binary.LittleEndian.Uint32(end[:]))
	if string(end[4:]) != Magic || n > maxParquetFooter || n > size-int64(len(end))-int64(len(Magic)) {
		return nil, bad("a footer of %d bytes that ends in %q", n, end[4:])
	}
	var meta parquetfile.FileMetaData
	if _, err := decodeThrift(r, size-int64(len(end))-n, n, &meta); err != nil {
		return nil, bad("footer: %w", err)
	}
	if meta.NumRows < 0 || meta.NumRows > b.Rows {
		return nil, bad("%d rows, at most %d", meta.NumRows, b.Rows)
	}
	return &meta, nil
}

// checkGroup compares every size of a group of rows for which memory is allocated with its bound.
func checkGroup(r io.ReaderAt, size int64, meta *parquetfile.FileMetaData, i int) error {
	if i >= len(meta.RowGroups) {
		return fmt.Errorf("parquet: %w: %d groups of rows", ErrFormat, len(meta.RowGroups))
	}
	var total int64
	for _, chunk := range meta.RowGroups[i].Columns {
		if err := checkChunk(r, size, &chunk.MetaData, &total); err != nil {
			return fmt.Errorf("parquet: %w: column %s: %w", ErrFormat, strings.Join(chunk.MetaData.PathInSchema, "."), err)
		}
	}
	return nil
}

// checkChunk checks the headers of all pages of a column of a row group and adds their unpacked sizes to total.
func checkChunk(r io.ReaderAt, size int64, c *parquetfile.ColumnMetaData, total *int64) error {
	at := c.DataPageOffset
	if c.DictionaryPageOffset > 0 && c.DictionaryPageOffset < at {
		at = c.DictionaryPageOffset
	}
	if at < 0 || c.TotalCompressedSize < 0 || c.TotalCompressedSize > size || at > size-c.TotalCompressedSize {
		return fmt.Errorf("%d bytes at %d of %d", c.TotalCompressedSize, at, size)
	}
	for end := at + c.TotalCompressedSize; at < end; {
		var h parquetfile.PageHeader
		n, err := decodeThrift(r, at, min(end-at, maxPageHeader), &h)
		if err != nil {
			return fmt.Errorf("page at %d: %w", at, err)
		}
		at += int64(n)
		values := max(h.DataPageHeader.V.NumValues, h.DataPageHeaderV2.V.NumValues, h.DataPageHeaderV2.V.NumRows, h.DictionaryPageHeader.V.NumValues)
		if h.CompressedPageSize < 0 || int64(h.CompressedPageSize) > end-at || h.UncompressedPageSize < 0 || h.UncompressedPageSize > maxParquetPage ||
			values > maxParquetValues {
			return fmt.Errorf("page at %d: %d bytes, unpacked %d, of %d values", at, h.CompressedPageSize, h.UncompressedPageSize, values)
		}
		at += int64(h.CompressedPageSize)
		if *total += int64(h.UncompressedPageSize); *total > maxParquetTotal {
			return fmt.Errorf("more than %d bytes, unpacked", int64(maxParquetTotal))
		}
	}
	return nil
}

// decodeThrift decodes one value from at most n bytes and returns how many it used.
func decodeThrift(r io.ReaderAt, at, n int64, v any) (int, error) {
	b := make([]byte, n)
	if _, err := r.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	reader := bounded{(&thrift.CompactProtocol{}).NewReaderFromBytes(b), len(b)}
	err := thrift.NewDecoder(reader).Decode(v)
	return reader.BytesRead(), err
}

// bounded is a thrift reader that refuses lists with more members than the input has bytes.
type bounded struct {
	thriftReader
	most int
}

// thriftReader names the field that bounded embeds: Reader is one of its methods.
type thriftReader = thrift.Reader

func (b bounded) ReadList() (thrift.List, error) {
	l, err := b.thriftReader.ReadList()
	return l, b.check(int64(l.Size), err)
}

func (b bounded) ReadSet() (thrift.Set, error) {
	s, err := b.thriftReader.ReadSet()
	return s, b.check(int64(s.Size), err)
}

func (b bounded) ReadMap() (thrift.Map, error) {
	m, err := b.thriftReader.ReadMap()
	return m, b.check(int64(m.Size), err)
}

func (b bounded) check(n int64, err error) error {
	if err == nil && (n < 0 || n > int64(b.most)) {
		err = fmt.Errorf("a list of %d members in %d bytes", n, b.most)
	}
	return err
}
