package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/convert"
	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/gguf"
)

// outFlags are the flags of the output file.
type outFlags struct {
	path, typ, as string
	force         bool
	vocab         explorer.VocabSize   // of the file; the zero value for that of the subnet
	calibration   explorer.Calibration // the texts that it is chosen on
}

func (o *outFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&o.path, "output", "o", "", "file to write (GGUF); with --as hf a folder")
	flags.StringVar(&o.as, "as", asGGUF, "format: gguf, or hf for a Hugging Face folder in the layout of DeciLM")
	flags.StringVar(&o.typ, "type", "", "tensor type to write: F32, F16, BF16, Q8_0, Q4_0 or Q4_1, … (default: the source's)")
	flags.BoolVar(&o.force, "force", false, "replace an existing file")
	choices(flags, "as", asGGUF, asHF)
	choices(flags, "type", gguf.WritableNames()...)
}

// addFile adds the flags of a GGUF file whose types the command chooses.
func (o *outFlags) addFile(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.path, "output", "o", "", "file to write, GGUF")
	cmd.Flags().BoolVar(&o.force, "force", false, "replace an existing file")
}

// Output formats of a subnet.
const (
	asGGUF = explorer.AsGGUF
	asHF   = explorer.AsFolder
)

// toStdout is the file name that stands for standard output.
const toStdout = "-"

// storage returns where to store a subnet: in the workspace, unless it is written to a file.
func (o *outFlags) storage() storage {
	if o.path == "" {
		return inWorkspace
	}
	return inMemory
}

// check returns the errors that would otherwise occur after minutes of work: an unknown type, a folder that is not writable.
func (o *outFlags) check() error {
	if o.typ != "" {
		t, err := gguf.ParseType(o.typ)
		if err != nil {
			return usage(fmt.Errorf("--type: %w", err))
		}
		if !gguf.Writable(t) {
			return usage(fmt.Errorf("--type: %s cannot be written", o.typ))
		}
	}
	switch {
	case o.as == asHF:
		return o.checkFolder()
	case o.as != "" && o.as != asGGUF: // "" if the command has no such flag
		return usage(fmt.Errorf("--as %q: not %s or %s", o.as, asGGUF, asHF))
	}
	if o.path == "" || o.path == toStdout {
		return nil
	}
	switch info, err := os.Stat(o.path); {
	case err == nil && info.IsDir():
		return usage(fmt.Errorf("-o %s: is a directory", o.path))
	case err == nil && !o.force:
		return usage(fmt.Errorf("-o %s: file exists (--force replaces it)", o.path))
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("-o: %w", err)
	}
	return o.probe()
}

// probe checks that a file can be created in the folder of the output.
func (o *outFlags) probe() error {
	probe, err := durable.Create(filepath.Clean(o.path), 0o600)
	if err != nil {
		return output{fmt.Errorf("-o %s: cannot write there: %w", o.path, errors.Unwrap(err))}
	}
	return probe.Close()
}

// checkFolder is check for a Hugging Face folder.
func (o *outFlags) checkFolder() error {
	if o.typ != "" && !slices.Contains(convert.FolderTypes(), strings.ToUpper(o.typ)) {
		return usage(fmt.Errorf("--type %s: safetensors files have %s", o.typ, strings.Join(convert.FolderTypes(), " or ")))
	}
	if o.path == "" || o.path == toStdout {
		return usage(errors.New("-o FOLDER is missing"))
	}
	switch entries, err := os.ReadDir(o.path); {
	case err == nil && len(entries) > 0:
		return usage(fmt.Errorf("-o %s: directory is not empty", o.path))
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return usage(fmt.Errorf("-o %s: not a directory", o.path))
	}
	return o.probe()
}
