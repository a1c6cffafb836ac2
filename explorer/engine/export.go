package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/convert"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/scratch"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// Write implements [explorer.Exporter].
func (m *model) Write(ctx context.Context, s gguf.Subnet, path, typ string, mon explorer.Monitor) (gguf.Report, error) {
	var r gguf.Report
	err := mon.Persist(ctx, func() (err error) {
		r, err = gguf.WriteSubnet(ctx, m.file, path, s, gguf.WriteOptions{Type: typ, Progress: func(done, total int64) {
			mon.Progress(float64(done), float64(total), "bytes", "")
			_ = mon.Gate(ctx) // the writer finds that ctx has ended
		}})
		return err
	})
	if why := m.info.NoRuntime; why != "" && err == nil {
		mon.Note("only lathe reads the file: " + why)
	}
	return r, err
}

// WriteFolder implements [explorer.Exporter], by way of a temporary file.
func (m *model) WriteFolder(ctx context.Context, s gguf.Subnet, path, typ string, mon explorer.Monitor) (_ gguf.Report, err error) {
	if family, _ := subnet.FamilyOf(m.info.Arch); !family.Runs { // checked before the temporary file is written
		return gguf.Report{}, fmt.Errorf("%w: the layout is Llama's, and the model is %s", convert.ErrUnsupported, family.Arch)
	}
	if typ == "" {
		if typ = m.info.FileType; typ != "F32" && typ != "BF16" {
			typ = "F16"
		}
	}
	if !slices.Contains(convert.FolderTypes(), strings.ToUpper(typ)) {
		return gguf.Report{}, fmt.Errorf("%w: type %s: safetensors files have %s", explorer.ErrInvalid, typ, strings.Join(convert.FolderTypes(), ", "))
	}
	dir, err := scratch.New(m.engine.options.Scratch, "export")
	if err != nil {
		return gguf.Report{}, err
	}
	defer func() { err = errors.Join(err, dir.Remove()) }()
	report, err := m.Write(ctx, s, dir.Join("subnet.gguf"), typ, mon)
	if err != nil {
		return report, err
	}
	f, err := gguf.Open(report.Path)
	if err != nil {
		return report, err
	}
	defer func() { _ = f.Close() }() // only read from
	var written convert.FolderReport
	err = mon.Persist(ctx, func() (err error) {
		written, err = convert.WriteFolder(ctx, f, path, func(done, total int64) { mon.Progress(float64(done), float64(total), "bytes", "folder") })
		return err
	})
	if err != nil {
		return report, err
	}
	report.Path, report.Arch, report.Bytes, report.Notes = written.Path, written.Class, written.Bytes, written.Notes
	return report, nil
}

// CheckFile implements [explorer.Exporter].
func (m *model) CheckFile(path string) error {
	f, err := gguf.Open(path)
	if err != nil {
		return err
	}
	return f.Close()
}

// Read implements [explorer.Exporter].
func (m *model) Read(ctx context.Context, path string) (gguf.Subnet, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return gguf.Subnet{}, err
	}
	defer func() { _ = f.Close() }() // only read from
	s, err := gguf.ReadSubnet(ctx, m.file, f)
	if errors.Is(err, gguf.ErrSource) {
		err = fmt.Errorf("%w: %w", explorer.ErrInvalid, err)
	}
	return s, err
}

// Carry implements [explorer.Cutter].
func (m *model) Carry(ctx context.Context, from gguf.Subnet, to subnet.Masks) (gguf.Subnet, error) {
	return gguf.Carry(ctx, m.file, from, to)
}
