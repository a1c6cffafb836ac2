package remote

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

// Limits of pieces of work.
const (
	maxKind       = 32
	maxPieceFiles = 64
	maxValue      = maxResult / 2 // bytes of a value, as JSON
	maxProduct    = maxFile       // bytes of the files that a piece results in
)

// A Piece is a piece of work other than the scoring of candidates. What it is, is known to those who hand it out and to those who do it.
type Piece struct {
	Kind     string          // lower-case letters
	Number   int             `json:",omitempty"` // set by [Pieces.Add]
	Settings json.RawMessage `json:",omitempty"`
	Files    []File          `json:",omitempty"` // that it needs besides those of the search
	// Spent is how many of the files, from the first, nobody needs afterwards.
	Spent int `json:",omitempty"`
	// Limit is how many bytes the files that it results in may have together.
	Limit int64 `json:",omitempty"`
}

func (p Piece) check() error {
	switch {
	case p.Kind == "" || len(p.Kind) > maxKind || strings.Trim(p.Kind, "abcdefghijklmnopqrstuvwxyz") != "":
		return fmt.Errorf("%w: Piece.Kind %.40q", errMessage, p.Kind)
	case len(p.Files) > maxPieceFiles:
		return fmt.Errorf("%w: Piece.Files has %d of %d at most", errMessage, len(p.Files), maxPieceFiles)
	case p.Spent < 0 || p.Spent > len(p.Files):
		return fmt.Errorf("%w: Piece.Spent %d of %d files", errMessage, p.Spent, len(p.Files))
	case p.Limit < 0 || p.Limit > maxProduct:
		return fmt.Errorf("%w: Piece.Limit %d", errMessage, p.Limit)
	}
	for i, f := range p.Files {
		if err := f.check(fmt.Sprintf("Piece.Files[%d]", i)); err != nil {
			return err
		}
	}
	return nil
}

// keyOfPiece identifies a piece of work by its number, together with all that its result depends on.
func keyOfPiece(identity string, p Piece) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s piece %s %d %d\n%s", identity, p.Kind, p.Number, len(p.Settings), p.Settings)
	for _, f := range p.Files {
		fmt.Fprintf(h, " %s", f.SHA256)
	}
	return hex.EncodeToString(h.Sum(nil))[:keyDigits]
}

// product is what a piece of work has resulted in. Its key is in the subject.
type product struct {
	Worker string
	Value  json.RawMessage
	Files  []File `json:",omitempty"`
}

func decodeProduct(data []byte) (product, error) {
	var p product
	if err := decode(data, maxResult, &p); err != nil {
		return product{}, err
	}
	switch {
	case len(p.Value) == 0 || len(p.Value) > maxValue:
		return product{}, fmt.Errorf("%w: Value has %d bytes of 1 to %d", errMessage, len(p.Value), maxValue)
	case !validWorker(p.Worker):
		return product{}, fmt.Errorf("%w: Worker %.40q", errMessage, p.Worker)
	case len(p.Files) > maxPieceFiles:
		return product{}, fmt.Errorf("%w: Files has %d of %d at most", errMessage, len(p.Files), maxPieceFiles)
	}
	for i, f := range p.Files {
		if err := f.check(fmt.Sprintf("Files[%d]", i)); err != nil {
			return product{}, err
		}
	}
	return p, nil
}

// partOfProduct is a part of a file that a piece of work results in: a line of JSON, and the bytes.
type partOfProduct struct {
	Worker string
	Key    string // of the piece
	File   File
	Offset int64
}

// sliceBytes is the size of the parts in which such files are sent, but for the last one.
const sliceBytes = 512 << 10

// maxSliceHead bounds the line before the bytes.
const maxSliceHead = 1 << 10

func encodeSlice(p partOfProduct, data []byte) ([]byte, error) {
	head, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	return append(append(head, '\n'), data...), nil
}

func decodeSlice(data []byte) (partOfProduct, []byte, error) {
	end := bytes.IndexByte(data[:min(len(data), maxSliceHead)], '\n')
	if end < 0 {
		return partOfProduct{}, nil, fmt.Errorf("%w: no line of %d bytes at most", errMessage, maxSliceHead)
	}
	var p partOfProduct
	if err := decode(data[:end], maxSliceHead, &p); err != nil {
		return partOfProduct{}, nil, err
	}
	body := data[end+1:]
	switch {
	case !validWorker(p.Worker):
		return partOfProduct{}, nil, fmt.Errorf("%w: Worker %.40q", errMessage, p.Worker)
	case !isHex(p.Key, keyDigits):
		return partOfProduct{}, nil, fmt.Errorf("%w: Key %.40q", errMessage, p.Key)
	case p.Offset < 0 || p.Offset > p.File.Bytes:
		return partOfProduct{}, nil, fmt.Errorf("%w: Offset %d of %d bytes", errMessage, p.Offset, p.File.Bytes)
	case len(body) > sliceBytes || int64(len(body)) > p.File.Bytes-p.Offset:
		return partOfProduct{}, nil, fmt.Errorf("%w: %d bytes at %d of %d", errMessage, len(body), p.Offset, p.File.Bytes)
	}
	return p, body, p.File.check("File")
}

// sliceReply answers how many bytes of the file there are now, or why it is not wanted.
type sliceReply struct {
	Have     int64
	Unwanted bool   `json:",omitempty"` // the piece has a product, or was withdrawn
	Error    string `json:",omitempty"`
}
