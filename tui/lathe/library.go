package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/lathe-llm/lathe/explorer/format"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
)

func (a *app) subnetsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "subnets", Short: "List, export and organise the subnets of a workspace", Args: subcommandArgs, RunE: needsSubcommand}
	if a.shared == nil {
		cmd.AddCommand(a.subnetsImportCommand())
	}
	cmd.AddCommand(a.subnetsListCommand(), a.subnetsExportCommand(),
		a.subnetsNamedCommand("rename", "NAME", "Rename a subnet", func(id explorer.SubnetID, name string) explorer.Command {
			return explorer.RenameSubnet{Subnet: id, Name: name}
		}),
		a.subnetsNamedCommand("duplicate", "NAME", "Copy a subnet under another name", func(id explorer.SubnetID, name string) explorer.Command {
			return explorer.DuplicateSubnet{Subnet: id, Name: name}
		}),
		a.subnetsNamedCommand("note", "NOTE", "Set the note of a subnet", func(id explorer.SubnetID, text string) explorer.Command {
			return explorer.AnnotateSubnet{Subnet: id, Note: text}
		}),
		a.subnetsOneCommand("delete", "Move a subnet to the trash", func(id explorer.SubnetID) explorer.Command {
			return explorer.DeleteSubnet{Subnet: id}
		}),
		a.subnetsOneCommand("restore", "Restore a subnet from the trash", func(id explorer.SubnetID) explorer.Command {
			return explorer.RestoreSubnet{Subnet: id}
		}),
		a.subnetsEmptyCommand(), a.subnetsMeasureCommand())
	return cmd
}

// subnetResult is a subnet in `subnets list --json`.
type subnetResult struct {
	ID           string                 `json:"id"`
	Name         string                 `json:"name"`
	Origin       explorer.Origin        `json:"origin"`
	Parent       string                 `json:"parent,omitempty"`
	Author       string                 `json:"author,omitempty"`
	Created      time.Time              `json:"created"`
	Size         sizeResult             `json:"size"`
	Refitted     bool                   `json:"refitted"`
	Types        map[string]string      `json:"types,omitempty"` // of matrices by their tensors in the model, where they are not the model's
	Method       explorer.Method        `json:"method"`
	Note         string                 `json:"note,omitempty"`
	HeldOut      *heldOutResult         `json:"held_out,omitempty"`            // measured when it was cut or re-fitted
	Relative     float64                `json:"perplexity_relative,omitempty"` // the figure of lists: perplexity over the dense model's on the same tokens
	Deleted      bool                   `json:"deleted,omitempty"`
	Measurements []explorer.Measurement `json:"measurements"`
}

// heldOutResult is the perplexity on the end of the calibration text. It does not compare with measurements.
type heldOutResult struct {
	explorer.HeldOut
	Tokens int    `json:"tokens"` // one window
	Text   string `json:"text"`
}

func newSubnet(n explorer.Subnet) subnetResult {
	r := subnetResult{
		ID: string(n.ID), Name: n.Name, Origin: n.Origin, Parent: string(n.Parent), Author: n.Author, Created: n.Created, Size: newSize(n.Size, n.Bytes),
		Refitted: n.Refitted(), Types: n.TypeNames(), Method: n.Method, Note: n.Note, Deleted: !n.Deleted.IsZero(), Measurements: n.Measurements,
		Relative: n.Figure().Relative,
	}
	if r.Measurements == nil {
		r.Measurements = []explorer.Measurement{}
	}
	r.HeldOut = newHeldOut(n)
	return r
}

// newHeldOut returns the first measurement of a subnet, nil if there is none.
func newHeldOut(n explorer.Subnet) *heldOutResult {
	if n.HeldOut == (explorer.HeldOut{}) {
		return nil
	}
	return &heldOutResult{n.HeldOut, explorer.HeldOutTokens, n.Method.Text.Path}
}

func (a *app) subnetsListCommand() *cobra.Command {
	var trash bool
	cmd := &cobra.Command{
		Use: "list [MODEL]", Short: "List the subnets of a workspace, newest first", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args)
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), model, readOnly, func(e exploration) error {
				s := e.Snapshot()
				list := s.Subnets
				if trash {
					list = s.Trash
				}
				r := struct {
					Model     string         `json:"model"`
					Workspace string         `json:"workspace"`
					Subnets   []subnetResult `json:"subnets"`
				}{s.Model.Path, s.Workspace.Path, []subnetResult{}}
				for _, n := range list {
					r.Subnets = append(r.Subnets, newSubnet(n))
				}
				return a.result(r, func(w io.Writer) { subnetsTable(w, list) })
			})
		},
	}
	cmd.Flags().BoolVar(&trash, "trash", false, "list deleted subnets, which can be restored")
	return cmd
}

// noSubnets is shown for a workspace without subnets.
const noSubnets = "the workspace has no subnets yet: `lathe cut` without -o and `lathe search` make some, `lathe subnets import FILE` adds a file"

func subnetsTable(w io.Writer, list []explorer.Subnet) {
	if len(list) == 0 {
		fmt.Fprintln(w, noSubnets)
		return
	}
	rows := [][]string{{"id", "name", "origin", "weights", "types", "share", "size", "× dense", "perplexity", "created"}}
	for _, n := range list {
		weights := "original"
		if n.Refitted() {
			weights = "re-fitted"
		}
		types := "source"
		if n.Types != nil {
			types = "mixed"
		}
		row := []string{string(n.ID), n.Name, string(n.Origin), weights, types, fmt.Sprintf("%.3f", n.Size.Ratio), format.Bytes(n.Bytes), "", "", n.Created.Local().Format("2006-01-02 15:04")}
		if f := n.Figure(); f.Perplexity > 0 {
			row[8] = fmt.Sprintf("%.2f", f.Perplexity)
			if f.Relative > 0 {
				row[7] = fmt.Sprintf("%.3f", f.Relative)
			}
		}
		rows = append(rows, row)
	}
	table(w, rows...)
	fmt.Fprintf(w, "\n× dense, perplexity: of the newest measurement beside the dense model, else on the last %d tokens of the calibration text\n", explorer.HeldOutTokens)
}

// changeLibrary runs a command on a subnet and shows the subnet afterwards.
func (a *app) changeLibrary(ctx context.Context, what string, args []string, command func(explorer.SubnetID) explorer.Command) error {
	model, err := a.modelArg(args)
	if err != nil {
		return err
	}
	return a.with(ctx, model, inWorkspace, func(e exploration) error {
		id, err := find(e.Snapshot(), what)
		if err != nil {
			return err
		}
		receipt, err := e.Do(ctx, a.actor(), command(id))
		if err != nil {
			return err
		}
		n, ok := e.Snapshot().Subnet(receipt.Subnet)
		if !ok {
			return fmt.Errorf("subnet %s: %w", receipt.Subnet, explorer.ErrNotFound)
		}
		return a.result(newSubnet(n), func(w io.Writer) { fmt.Fprintf(w, "%s: %s\n", n.ID, n.Name) })
	})
}

func (a *app) subnetsOneCommand(use, short string, command func(explorer.SubnetID) explorer.Command) *cobra.Command {
	return &cobra.Command{
		Use: use + " SUBNET [MODEL]", Short: short, Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeLibrary(cmd.Context(), args[0], args[1:], command)
		},
	}
}

func (a *app) subnetsNamedCommand(use, argument, short string, command func(explorer.SubnetID, string) explorer.Command) *cobra.Command {
	return &cobra.Command{
		Use: use + " SUBNET " + argument + " [MODEL]", Short: short, Args: cobra.RangeArgs(2, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeLibrary(cmd.Context(), args[0], args[2:], func(id explorer.SubnetID) explorer.Command { return command(id, args[1]) })
		},
	}
}

func (a *app) subnetsEmptyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "empty-trash [MODEL]", Short: "Delete the subnets in the trash permanently", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args)
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), model, inWorkspace, func(e exploration) error {
				r := struct {
					Deleted int `json:"deleted"`
				}{len(e.Snapshot().Trash)}
				if _, err := e.Do(cmd.Context(), a.actor(), explorer.EmptyTrash{}); err != nil {
					return err
				}
				return a.result(r, func(w io.Writer) { fmt.Fprintf(w, "%s deleted\n", format.Counted(r.Deleted, "subnet")) })
			})
		},
	}
}

func (a *app) subnetsExportCommand() *cobra.Command {
	var out outFlags
	cmd := &cobra.Command{
		Use: "export SUBNET [MODEL]", Short: "Write a subnet as a GGUF file or a Hugging Face folder", Args: cobra.RangeArgs(1, 2),
		Long: "With --as hf it writes a folder with config.json, a safetensors file and the tokenizer. If layers differ, the layout is\n" +
			"DeciLM's, as in Nvidia's Nemotron models: a width for each layer, and blocks without operation. It represents Llama's\n" +
			"architecture only, with the same number of whole query heads in all layers and without output biases; other subnets are\n" +
			"refused with the reason.",
		Example: "  lathe subnets export s3 -o small.gguf --type Q8_0\n  lathe subnets export s3 --as hf -o small/ --type BF16\n  ssh host subnets export s3 -o - > small.gguf",
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args[1:])
			if err != nil {
				return err
			}
			if out.path == "" {
				return usage(errors.New("-o FILE is missing"))
			}
			if err := out.check(); err != nil {
				return err
			}
			if cmd.Flags().Changed("text") && !out.vocab.On() {
				return usage(errors.New("--text: there is nothing to count tokens for without --vocab"))
			}
			return a.with(cmd.Context(), model, readOnly, func(e exploration) error {
				id, err := find(e.Snapshot(), args[0])
				if err != nil {
					return err
				}
				report, err := a.export(cmd.Context(), e, id, out)
				if err != nil {
					return err
				}
				if out.path == toStdout {
					fallbackWords(a.stderr, report.Fallbacks)
					return nil
				}
				return a.result(report, func(w io.Writer) {
					fmt.Fprintf(w, "%s: %s\n", report.Path, format.Bytes(report.Bytes))
					fallbackWords(w, report.Fallbacks)
					noteWords(w, report.Notes)
				})
			})
		},
	}
	out.add(cmd)
	vocabFlag(cmd, &out.vocab, "the texts")
	cmd.Flags().Var(&calibrationText{c: &out.calibration}, "text", "with --vocab, the text to count tokens in, as for lathe vocab (default: "+defaultTexts()+")")
	return cmd
}

func (a *app) subnetsImportCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "import FILE [MODEL]",
		Short: "Import a subnet that was made elsewhere",
		Long: "FILE is a GGUF file that was cut from MODEL, by lathe or another tool, or a file of masks: the field text of\n" +
			"`masks show --json`. Files of other tools are recognised by their rows if they have the model's tensor types and keep\n" +
			"whole heads.",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args[1:])
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), model, inWorkspace, func(e exploration) error {
				return a.importSubnet(cmd.Context(), e, args[0], name)
			})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "name in the workspace (default: the file's)")
	return cmd
}

// masksHeader begins every file of masks.
const masksHeader = "lathe-masks "

func (a *app) importSubnet(ctx context.Context, e exploration, path, name string) error {
	if name == "" {
		name = filepath.Base(path)
	}
	text, isMasks, err := readMasks(path)
	if err != nil {
		return input(err)
	}
	var id explorer.SubnetID
	if isMasks {
		receipt, err := e.Do(ctx, a.actor(), explorer.AddSubnet{Name: name, Masks: text, Origin: explorer.Imported})
		if err != nil {
			return input(fmt.Errorf("%s: %w", path, err))
		}
		id = receipt.Subnet
	} else {
		job, err := a.start(ctx, e, explorer.ImportFile{Path: path, Name: name})
		if err != nil {
			return err
		}
		id = job.Result
	}
	n, ok := e.Snapshot().Subnet(id)
	if !ok {
		return fmt.Errorf("subnet %s: %w", id, explorer.ErrNotFound)
	}
	return a.result(newSubnet(n), func(w io.Writer) {
		fmt.Fprintf(w, "%s: %s, %.3f of the block parameters\n", n.ID, n.Name, n.Size.Ratio)
	})
}

// readMasks reads a file of masks; ok is false if the file is of another kind.
func readMasks(path string) (text string, ok bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", false, err
	}
	defer func() { _ = f.Close() }() // only read from
	head := make([]byte, len(masksHeader))
	if _, err := io.ReadFull(f, head); err != nil || string(head) != masksHeader {
		return "", false, nil
	}
	const most = 64 << 20
	rest, err := io.ReadAll(io.LimitReader(f, most))
	return masksHeader + string(rest), true, err
}
